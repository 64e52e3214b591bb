//! Results known in advance: the seed's worked example, and the edge cases that the mathematics answers.

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use crossmodal::autograd::Tape;
use crossmodal::ops::cosine_similarity::COSINE_SIMILARITY;
use crossmodal::ops::gather::GATHER;
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::l2_normalize::L2_NORMALIZE;
use crossmodal::ops::layer_norm::{LAYER_NORM, RMS_NORM};
use crossmodal::ops::{
    Indices, InfoNceOptions, MatmulOptions, Pairing, Reduce, ReduceOptions, Rule, SiglipOptions, Targets,
    Unary, clip_global_norm, concat, cosine_similarity, info_nce, l2_normalize, layer_norm, log_sum_exp,
    matmul, reduce, siglip, softmax, sub, unary,
};
use crossmodal::{DType, Device, Tensor};
use everywhere::everywhere;

fn tensor(device: &Device, dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(device, shape, dtype, values.to_vec()).unwrap()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], allowed: f64) {
    assert_eq!(got.len(), want.len(), "{got:?} instead of {want:?}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= allowed, "{got} instead of {want}");
    }
}

#[test]
fn the_seeds_worked_example() {
    everywhere(|device, dtype| {
        let x = tensor(device, dtype, &[3], &[0.1, 0.2, 0.3]);
        let y = tensor(device, dtype, &[3], &[0.4, 0.5, 0.6]);
        let both = concat(&[&x, &y], 0).unwrap();
        close(&both.to_f64_vec().unwrap(), &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1e-7);
        let pair = |t: &Tensor| t.reshape(&[1, 3]).unwrap();
        let cosine = cosine_similarity(&pair(&x), &pair(&y), Pairing::Pairs).unwrap();
        close(&[cosine.item().unwrap()], &[0.974632], 5e-7);
        let one = tensor(device, dtype, &[1], &[1.]);
        close(&[sub(&one, &cosine).unwrap().item().unwrap()], &[0.025368], 5e-7);
    });
}

/// Rows at 1e4, a constant row, and one element: numbers in which a mean of f32, or a difference of squares, has no digits left.
#[test]
fn norms_of_rows_far_from_0_and_of_constant_rows() {
    everywhere(|device, dtype| {
        let of = |shape: &[usize], values: &[f64]| tensor(device, dtype, shape, values);
        let steps = [-1., 1., 1., -1., -1., 1.];
        for offset in [0., 1e4, -1e6] {
            let values: Vec<_> = (0..600).map(|i| offset + steps[i % 6]).collect();
            let (x, weight) = (of(&[2, 300], &values), of(&[300], &[2.; 300]));
            let y = layer_norm(&x, &weight, None, 1e-12).unwrap().to_f64_vec().unwrap();
            let want: Vec<_> = (0..600).map(|i| 2. * steps[i % 6]).collect();
            close(&y, &want, 2e-6);
        }
        let norm = |rule: &'static Rule<f64>, values: &[f64]| {
            let (tape, n) = (Tape::new(), values.len());
            let (x, weight) = (tape.leaf(&of(&[1, n], values)), tape.leaf(&of(&[n], &vec![1.; n])));
            let y = tape.apply(rule, 1e-4, &[&x, &weight]).unwrap();
            let upstream: Vec<_> = (0..n).map(|i| f64::from(i == 0)).collect();
            let gradients = tape.backward_from(&y, &of(&[1, n], &upstream)).unwrap();
            let of = |leaf| gradients.get(leaf).unwrap().to_f64_vec().unwrap();
            (y.value().to_f64_vec().unwrap(), of(&x), of(&weight))
        };
        // 1 / √1e-4 = 100 times the upstream gradient less its mean.
        let (y, dx, dw) = norm(&LAYER_NORM, &[3.3; 4]);
        assert_eq!((y, dw), (vec![0.; 4], vec![0.; 4]));
        close(&dx, &[75., -25., -25., -25.], 1e-4);
        assert_eq!(norm(&LAYER_NORM, &[3.3]), (vec![0.], vec![0.], vec![0.]));
        let (y, dx, dw) = norm(&RMS_NORM, &[0.; 4]);
        assert_eq!((y, dw), (vec![0.; 4], vec![0.; 4]));
        close(&dx, &[100., 0., 0., 0.], 1e-4);
        let (y, ..) = norm(&RMS_NORM, &[1e20, -1e20]);
        close(&y, &[1., -1.], 1e-6);
    });
}

#[test]
fn tiny_huge_and_zero_vectors_have_exact_directions() {
    everywhere(|device, dtype| {
        let sizes = [1e-20, 1e20, 1.];
        for size in sizes {
            let x = tensor(device, dtype, &[1, 4], &[size, -size, size, size]);
            close(&l2_normalize(&x).unwrap().to_f64_vec().unwrap(), &[0.5, -0.5, 0.5, 0.5], 1e-7);
            close(&[cosine_similarity(&x, &x, Pairing::Pairs).unwrap().item().unwrap()], &[1.], 3e-7);
        }
        let zero = tensor(device, dtype, &[1, 4], &[0.; 4]);
        assert_eq!(l2_normalize(&zero).unwrap().to_f64_vec().unwrap(), [0.; 4]);
        let other = tensor(device, dtype, &[1, 4], &[1., 2., 3., 4.]);
        assert_eq!(cosine_similarity(&zero, &other, Pairing::Pairs).unwrap().item().unwrap(), 0.);
    });
}

#[test]
fn log_sum_exp_subtracts_the_maximum_of_what_is_there() {
    everywhere(|device, dtype| {
        let far = log_sum_exp(&tensor(device, dtype, &[1, 65], &[-104.; 65])).unwrap();
        close(&far.to_f64_vec().unwrap(), &[-104. + 65f64.ln()], 2e-5);
        let wide = tensor(device, dtype, &[1, 3], &[1e4, -1e4, 1e4]);
        close(&log_sum_exp(&wide).unwrap().to_f64_vec().unwrap(), &[1e4 + 2f64.ln()], 1e-3);
        close(&softmax(&wide).unwrap().to_f64_vec().unwrap(), &[0.5, 0., 0.5], 1e-6);
    });
}

/// v σ(2√(2/π)(v + 0.044715 v³)), by decimal arithmetic of 40 digits.
#[test]
fn gelu_by_tanh_has_its_known_values() {
    let known = [
        (-3., -0.003_637_392_081_773_019),
        (-1., -0.158_808_009_391_723_23),
        (-0.5, -0.154_285_990_174_856_08),
        (0., 0.),
        (0.5, 0.345_714_009_825_143_92),
        (1., 0.841_191_990_608_276_7),
        (3., 2.996_362_607_918_227),
    ];
    let (points, values): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    everywhere(|device, dtype| {
        let x = tensor(device, dtype, &[points.len()], &points);
        let got = unary(Unary::GeluTanh, &x).unwrap().to_f64_vec().unwrap();
        close(&got, &values, if dtype == DType::F64 { 1e-15 } else { 5e-7 });
    });
}

/// The gradients of the inputs of an operation with one result.
fn gradients<O: Send + Sync + 'static>(
    rule: &'static Rule<O>,
    options: O,
    inputs: &[&Tensor],
    upstream: &Tensor,
) -> Vec<Tensor> {
    let tape = Tape::new();
    let leaves: Vec<_> = inputs.iter().map(|input| tape.leaf(input)).collect();
    let out = tape.apply(rule, options, &leaves.iter().collect::<Vec<_>>()).unwrap();
    let gradients = tape.backward_from(&out, upstream).unwrap();
    leaves.iter().map(|leaf| gradients.get(leaf).unwrap().clone()).collect()
}

#[test]
fn a_zero_vector_has_no_gradient() {
    everywhere(|device, dtype| {
        let of = |shape: &[usize], values: &[f64]| tensor(device, dtype, shape, values);
        let x = of(&[2, 2], &[0., 0., 3., 4.]);
        let dx = &gradients(&L2_NORMALIZE, (), &[&x], &of(&[2, 2], &[5., -7., 5., -7.]))[0];
        let dx = dx.to_f64_vec().unwrap();
        assert_eq!(dx[..2], [0., 0.]);
        // (g − x̂⟨x̂, g⟩) / 5 with ⟨x̂, g⟩ = −2.6
        close(&dx[2..], &[1.312, -0.984], 1e-6);
        let y = of(&[2, 2], &[1., 2., 0., 0.]);
        let of_cosine = |pairing, shape: &[usize]| {
            let upstream = of(shape, &vec![2.; shape.iter().product()]);
            let both = gradients(&COSINE_SIMILARITY, pairing, &[&x, &y], &upstream);
            [0, 1].map(|i| both[i].to_f64_vec().unwrap())
        };
        assert_eq!(of_cosine(Pairing::Pairs, &[2]), [[0.; 4]; 2], "either is zero in each pair");
        let [dx, dy] = of_cosine(Pairing::AllPairs, &[2, 2]);
        assert_eq!((&dx[..2], &dy[2..]), (&[0.; 2][..], &[0.; 2][..]));
        close(&dx[2..], &[-0.057_243_340_223_994_62, 0.042_932_505_167_995_95], 1e-7);
    });
}

/// Of length 4, the largest entry a power of two: no step rounds where division and root are those of IEEE 754. WGSL allows
/// either 2.5 units in the last place.
#[test]
fn rows_whose_length_is_a_power_of_two_are_exact() {
    everywhere(|device, dtype| {
        let allowed = if *device == Device::Cpu { 0. } else { 6e-7 };
        let close = |got: &Tensor, want: &[f64]| close(&got.to_f64_vec().unwrap(), want, allowed);
        let of = |values: &[f64]| tensor(device, dtype, &[1, values.len()], values);
        let x = of(&[2., 1., 1., 1., 1., 2., -2.]);
        let y = of(&[1., 1., 0., 0., -1., 0., 1.]);
        close(&l2_normalize(&x).unwrap(), &[0.5, 0.25, 0.25, 0.25, 0.25, 0.5, -0.5]);
        let dx = &gradients(&L2_NORMALIZE, (), &[&x], &of(&[1., 0., -2., 3., 0., 1., -2.]))[0];
        close(dx, &[-0.03125, -0.140625, -0.640625, 0.609375, -0.140625, -0.03125, -0.21875]);
        close(&cosine_similarity(&x, &y, Pairing::Pairs).unwrap(), &[0.]);
        close(
            &cosine_similarity(&x, &of(&[1., 1., 1., 0., 0., 0., -1.]), Pairing::AllPairs).unwrap(),
            &[0.75],
        );
        let (clipped, norm) = clip_global_norm(&[&of(&[2., 1., 1.]), &of(&[1., 1., 2., -2.])], 1.).unwrap();
        close(&norm, &[4.]);
        close(&clipped[0], &[0.5, 0.25, 0.25]);
        close(&clipped[1], &[0.25, 0.25, 0.5, -0.5]);
    });
}

/// Not whole numbers: another order of summation would round otherwise. Lists of 3000, which are summed in two levels.
#[test]
fn the_gradient_of_a_gather_has_the_same_bits_every_time() {
    let (rows, width, count) = (3, 5, 9000);
    let indices: Vec<u32> = (0..count as u32).map(|i| (i * i + i / 7) % rows as u32).collect();
    let grads: Vec<f64> = (0..count * width).map(|i| (i as f64 * 0.7).sin() * (i % 97) as f64).collect();
    let run = |device: &Device, dtype| {
        let grad = tensor(device, dtype, &[count, width], &grads);
        let x = Tensor::zeros(device, &[rows, width], dtype).unwrap();
        let dx = gradients(&GATHER, Indices::new(device, &indices).unwrap(), &[&x], &grad);
        dx[0].to_f64_vec().unwrap()
    };
    everywhere(|device, dtype| {
        let first = run(device, dtype);
        assert!(first.iter().all(|sum| sum.is_finite() && *sum != 0.));
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(first, pool.install(|| run(device, dtype)), "{} {dtype}", device.name());
        }
    });
}

/// −∞ is what the log-sum-exp of nothing is: on the CPU, where it is carried through.
#[test]
fn the_log_sum_exp_of_nothing_adds_nothing() {
    const NONE: f64 = f64::NEG_INFINITY;
    for dtype in [DType::F64, DType::F32] {
        let parts = tensor(&Device::Cpu, dtype, &[3, 2], &[NONE, NONE, NONE, 3., 3., NONE]);
        assert_eq!(log_sum_exp(&parts).unwrap().to_f64_vec().unwrap(), [NONE, 3., 3.], "{dtype}");
    }
}

fn loss(x: &Tensor, y: &Tensor, t: f64, symmetric: bool) -> f64 {
    let scale = tensor(x.device(), x.dtype(), &[], &[t]);
    let options = InfoNceOptions { symmetric, ..InfoNceOptions::default() };
    info_nce(x, y, &scale, &options).unwrap().item().unwrap()
}

#[test]
fn info_nce_at_its_edges() {
    everywhere(|device, dtype| {
        let one = tensor(device, dtype, &[1, 2], &[0.6, 0.8]);
        assert_eq!(loss(&one, &one, 3., true), 0., "one pair");
        let same = tensor(device, dtype, &[65, 2], &[0.6, 0.8].repeat(65));
        close(&[loss(&same, &same, 2., true)], &[65f64.ln()], 3e-6);
        // The positive is 140 below its rival: a loss of 140, not log of a probability that underflowed.
        let x = tensor(device, dtype, &[2, 2], &[1., 0., -1., 0.]);
        let y = tensor(device, dtype, &[2, 2], &[-1., 0., 1., 0.]);
        close(&[loss(&x, &y, 70f64.ln(), true), loss(&x, &y, 70f64.ln(), false)], &[140., 140.], 1e-4);
        // Logits of ±1e4, by raw inner products.
        let big = tensor(device, dtype, &[2, 2], &[100., 0., 0., 100.]);
        close(&[loss(&big, &big, 0., true)], &[0.], 1e-6);
        let swapped = tensor(device, dtype, &[2, 2], &[0., 100., 100., 0.]);
        close(&[loss(&big, &swapped, 0., true)], &[1e4], 1e-2);
        // Temperatures of 0.01 and of 1e-4.
        for temperature in [0.01f64, 1e-4] {
            let want = 2. / temperature;
            let got = loss(&x, &y, (1. / temperature).ln(), true);
            assert!((got - want).abs() <= 1e-5 * want, "{got} instead of {want}");
        }
    });
}

#[test]
fn one_pair_has_no_gradient() {
    everywhere(|device, dtype| {
        let tape = Tape::new();
        let [x, y] = [[0.6, 0.8], [0.8, -0.6]].map(|v| tape.leaf(&tensor(device, dtype, &[1, 2], &v)));
        let t = tape.leaf(&tensor(device, dtype, &[], &[2.]));
        let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&x, &y, &t]).unwrap();
        let gradients = tape.backward(&loss).unwrap();
        for leaf in [&x, &y, &t] {
            let gradient = gradients.get(leaf).unwrap().to_f64_vec().unwrap();
            assert!(gradient.iter().all(|&g| g == 0.), "{gradient:?}");
        }
    });
}

#[test]
fn nothing_reduced_and_rows_without_columns() {
    everywhere(|device, dtype| {
        let none = Tensor::zeros(device, &[2, 0], dtype).unwrap();
        let sum = ReduceOptions { kind: Reduce::Sum, axis: 1, keep_axis: false };
        assert_eq!(reduce(&none, &sum).unwrap().to_f64_vec().unwrap(), [0., 0.]);
        let max = ReduceOptions { kind: Reduce::Max, ..sum };
        assert!(reduce(&none, &max).unwrap_err().to_string().contains("an axis with elements"));
        assert!(softmax(&none).unwrap_err().to_string().contains("at least one column"));
        let product =
            matmul(&none, &Tensor::zeros(device, &[0, 3], dtype).unwrap(), None, &MatmulOptions::default());
        assert_eq!(product.unwrap().to_f64_vec().unwrap(), [0.; 6]);
    });
}

/// A row whose positives are all masked counts as masked, in the sigmoid loss too; one that never had any does not.
#[test]
fn a_row_that_lost_its_positives_is_masked() {
    everywhere(|device, dtype| {
        let of = |rows: usize, phase: f64| {
            let values: Vec<f64> = (0..rows * 2).map(|i| (i as f64 * 0.9 + phase).sin()).collect();
            tensor(device, dtype, &[rows, 2], &values)
        };
        let (x, y) = (of(4, 0.), of(3, 1.));
        let (t, b) = (tensor(device, dtype, &[], &[1.]), tensor(device, dtype, &[], &[-0.5]));
        let loss = |targets: Targets, keep_rows: Option<[bool; 4]>, keep_cols: [bool; 3]| {
            let keep_rows = keep_rows.map(|keep| keep.into());
            let options =
                SiglipOptions { targets, keep_rows, keep_cols: Some(keep_cols.into()), ..Default::default() };
            siglip(&x, &y, &t, &b, &options).unwrap().item().unwrap()
        };
        let cols = [true, false, true];
        // Row 3 has no partner: it keeps its negatives.
        let lost = loss(Targets::Diagonal, None, cols);
        assert_eq!(
            lost,
            loss(Targets::Diagonal, Some([true, false, true, true]), cols),
            "{} {dtype}",
            device.name()
        );
        let classes = || Targets::Classes { rows: [5, 6, 6, -1].into(), cols: [6, 5, 6].into() };
        // The one column of class 5 is masked, of class 6 two are left.
        assert_eq!(loss(classes(), None, cols), loss(classes(), Some([false, true, true, true]), cols));
        assert_ne!(loss(classes(), None, cols), loss(classes(), None, [true; 3]));
        assert_ne!(lost, loss(Targets::Diagonal, Some([true, false, true, false]), cols), "no partner");
    });
}
