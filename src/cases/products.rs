//! Cases of the operations built on the matrix product.

use super::bench::Bench;
use super::{Case, Input, Run, Tolerance, of_forward, of_rule};
use crate::ops::cosine_similarity::COSINE_SIMILARITY;
use crate::ops::matmul::{MATMUL, WAYS, Way, matmul_by, packed_and_back};
use crate::ops::{MatmulOptions, Pairing, Precision, Unary, matmul as matmul_op, mul};
use crate::tensor::Tensor;

const EXACT: (Tolerance, Tolerance) = (Tolerance::exact(), Tolerance::exact());
pub(super) const TAILS: [usize; 13] = [1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 127, 129, 257];

pub(super) fn matmul() -> Vec<Case> {
    let mut cases = vec![];
    let plain = MatmulOptions::default();
    let integers = |name: String, a: &[usize], b: &[usize], options: MatmulOptions| {
        let inputs = vec![Input::integers("a", a), Input::integers("b", b)];
        of_rule(name, &MATMUL, options, inputs, EXACT)
    };
    // Every tail in turn as rows, columns and inner size.
    for (i, &m) in TAILS.iter().enumerate() {
        let (n, k) = (TAILS[(i + 4) % 13], TAILS[(i + 9) % 13]);
        // f16 holds whole numbers to 2048: a gradient of 257 products of up to 16 may pass it.
        let case = integers(format!("{m}x{k}x{n}, integers"), &[m, k], &[k, n], plain);
        cases.push(if m.max(n).max(k) > 64 { case.f32_only() } else { case });
    }
    for (name, transpose_a, transpose_b) in [("AᵀB", true, false), ("ABᵀ", false, true), ("AᵀBᵀ", true, true)]
    {
        let options = MatmulOptions { transpose_a, transpose_b, ..plain };
        let a = if transpose_a { [9, 33] } else { [33, 9] };
        let b = if transpose_b { [65, 9] } else { [9, 65] };
        cases.push(integers(format!("{name}, integers"), &a, &b, options));
        let (a, b) = ([&[3][..], &a].concat(), [&[3][..], &b].concat());
        cases.push(integers(format!("{name} three times, integers"), &a, &b, options));
    }
    for (name, a, b) in [
        ("batch", vec![3, 5, 7], vec![3, 7, 9]),
        ("one B for all", vec![3, 5, 7], vec![7, 9]),
        ("one A for all", vec![5, 7], vec![4, 7, 2]),
        ("broadcast both ways", vec![2, 1, 5, 7], vec![3, 7, 2]),
        ("no rows", vec![0, 4], vec![4, 3]),
        ("no inner size", vec![3, 0], vec![0, 2]),
        ("no batch", vec![0, 2, 3], vec![0, 3, 2]),
    ] {
        cases.push(integers(format!("{name} {a:?} {b:?}, integers"), &a, &b, plain));
    }
    // More than one block of the inner axis.
    cases.push(integers("3x4097x5, integers".into(), &[3, 4097], &[4097, 5], plain).f32_only());
    cases.push(long_inner_axis());
    cases.push(integers("70000 products".into(), &[70_000, 1, 2], &[70_000, 2, 1], plain).f32_only());
    cases.extend(epilogues());
    cases.extend(WAYS.iter().flat_map(|way| by_way(*way)));
    cases.extend(WAYS.iter().filter(|way| way.has_units()).map(|way| in_two_parts(*way)));
    cases.extend([(0, false), (0, true), (1, false), (1, true)].map(packed));
    cases
}

/// Bias and activation come once, behind the last block; between blocks f16 is kept in f32.
fn long_inner_axis() -> Case {
    let k = 2500;
    let options = MatmulOptions { scale: 0.03, activation: Some(Unary::Tanh), ..MatmulOptions::default() };
    let inputs = vec![
        Input::uniform("a", &[5, k], 1.),
        Input::uniform("b", &[k, 33], 1.),
        Input::uniform("bias", &[33], 1.),
    ];
    let fused = move |_: &Run, inputs: &[Tensor]| {
        Ok(vec![("out".into(), matmul_op(&inputs[0], &inputs[1], Some(&inputs[2]), &options)?)])
    };
    // Products of at most 1, times the scale; tanh adds its own roundings and has a derivative of at most 1.
    let tolerance = Tolerance::accumulate(k, 0.03).and(Tolerance::cancelling(8., 2.));
    Case::of(format!("tanh fused, 5x{k}x33"), inputs, fused, tolerance)
}

/// Every way to compute a product, whichever would be chosen: rows, columns and inner sizes that are a multiple of four and
/// that are not, past one tile and less, both layouts of both inputs, a batch, what follows a product. Each layout, type and
/// size of a tile is a pipeline of its own, and those of tiles take a software driver seconds to compile: not every case has
/// all.
fn by_way(way: Way) -> Vec<Case> {
    let in_pieces = |pieces, name: &str, a: &[usize], b: &[usize], options: MatmulOptions, bias: bool| {
        let mut inputs = vec![Input::integers("a", a), Input::integers("b", b)];
        if bias {
            inputs.push(Input::integers("bias", &b[b.len() - 1 - usize::from(options.transpose_b)..][..1]));
        }
        let run = move |_: &Run, inputs: &[Tensor]| {
            Ok(vec![(
                "out".into(),
                matmul_by((way, pieces), [&inputs[0], &inputs[1]], inputs.get(2), &options)?,
            )])
        };
        Case::of(format!("{}: {name}", way.name()), inputs, run, Tolerance::exact())
    };
    let case = |name: &str, a: &[usize], b: &[usize], options, bias| in_pieces(1, name, a, b, options, bias);
    let plain = MatmulOptions::default();
    let turned = |transpose_a, transpose_b| MatmulOptions { transpose_a, transpose_b, ..plain };
    if way == Way::Vector {
        return vec![
            case("matrix by column", &[71, 130], &[130, 1], plain, false).f32_only(),
            case("turned matrix by column", &[33, 71], &[33, 1], turned(true, false), false),
            case("row by matrix", &[1, 33], &[33, 71], plain, true),
            case("row by turned matrix", &[1, 130], &[71, 130], turned(false, true), false).f32_only(),
            case("three", &[3, 1, 33], &[3, 33, 5], plain, false),
            case("long", &[2, 4097], &[4097, 1], plain, false).f32_only(),
        ];
    }
    // f16 holds whole numbers to 2048: sums of 36 products of up to 16 stay below.
    let mut cases = vec![
        case("132x36x260", &[132, 36], &[36, 260], plain, true),
        case("AᵀB 132x36x140", &[36, 132], &[36, 140], turned(true, false), false).f32_only(),
        case("ABᵀ 132x36x140", &[132, 36], &[140, 36], turned(false, true), true).f32_only(),
        case("three of 68x20x8", &[3, 68, 20], &[3, 20, 8], plain, false).f32_only(),
        case("3x4100x8", &[3, 4100], &[4100, 8], plain, true).f32_only(),
    ];
    if way.has_units() {
        // Rows and columns in whole blocks.
        cases.extend([
            case("144x40x272", &[144, 40], &[40, 272], plain, true),
            case("two of 32x70x48", &[2, 32, 70], &[2, 70, 48], plain, false),
        ]);
    }
    if way != Way::Tiled(128) {
        cases.extend([
            case("131x33x261", &[131, 33], &[33, 261], plain, true),
            case("AᵀB 131x33x137", &[33, 131], &[33, 137], turned(true, false), false).f32_only(),
            case("ABᵀ 131x33x137", &[131, 33], &[137, 33], turned(false, true), false).f32_only(),
            case("three of 5x18x6", &[3, 5, 18], &[3, 18, 6], plain, false).f32_only(),
            in_pieces(3, "20x36x12 in pieces", &[20, 36], &[36, 12], plain, true),
            in_pieces(3, "AᵀBᵀ two of 9x36x5 in pieces", &[2, 36, 9], &[2, 5, 36], turned(true, true), false)
                .f32_only(),
            case("relu", &[9, 20], &[20, 12], MatmulOptions { activation: Some(Unary::Relu), ..plain }, true)
                .f32_only(),
        ]);
    }
    cases
}

/// f32 by matrix units, in parts of f16: rows of A and columns of B from very small to very large, which the result is freed of again.
fn in_two_parts(way: Way) -> Case {
    let (m, k, n) = (80, 100, 48);
    let power = |line: usize| 2f64.powi((line % 13) as i32 * 9 - 54);
    let inputs = vec![
        Input::uniform("a", &[m, k], 1.).map(move |i, v| v * power(i / k)),
        Input::uniform("b", &[n, k], 1.).map(move |i, v| v / power(i / k)),
        Input::of(&[m, n], &(0..m * n).map(|i| power(i % n) / power(i / n)).collect::<Vec<_>>()),
    ];
    let run = move |_: &Run, inputs: &[Tensor]| {
        let options =
            MatmulOptions { transpose_b: true, precision: Precision::Fast, ..MatmulOptions::default() };
        let out = matmul_by((way, 1), [&inputs[0], &inputs[1]], None, &options)?;
        Ok(vec![("out".into(), mul(&out, &inputs[2])?)])
    };
    // Each product of numbers of at most 1 is off by 2^-19 of it, 32 roundings of f32; a quarter is their mean.
    let tolerance = Tolerance::accumulate(k, 1.).and(Tolerance::cancelling(16., 0.25 * k as f64));
    Case::of(format!("{}: f32 in two parts", way.name()), inputs, run, tolerance).f32_only()
}

/// Operands as matrix units read them, and back: which needs no such units.
fn packed((operand, transposed): (usize, bool)) -> Case {
    const LARGEST: f64 = 1023.9;
    let (batches, lines, k) = (2, 101, 45);
    let power = |line: usize| 2f64.powi((line % 11) as i32 - 5);
    let line = move |i: usize| if transposed { i % lines } else { i / k % lines };
    let inner = move |i: usize| if transposed { i / lines % k } else { i % k };
    let shape = if transposed { [batches, k, lines] } else { [batches, lines, k] };
    let inputs = vec![
        // The last of a line is its largest: a scale without it, or twice the scale, would make f16 overflow.
        Input::uniform("x", &shape, 1.)
            .map(move |i, v| if inner(i) + 1 < k { v } else { v.signum() * LARGEST } * power(line(i))),
        Input::of(&[64, k], &[]).fill(move |i| f64::from(u8::from(i / k == i % k))),
        Input::of(&[lines, 1], &[]).fill(move |i| 1. / power(i)),
    ];
    let run = move |_: &Run, inputs: &[Tensor]| {
        let back = packed_and_back(&inputs[0], &inputs[1], operand, transposed)?;
        Ok(vec![("out".into(), mul(&back, &inputs[2])?)])
    };
    let name = format!("operand {operand}{}, packed and back", if transposed { " transposed" } else { "" });
    // Two parts of eleven bits each; of what is small beside the largest no bit is below 2^-39 of it.
    let smallest = Tolerance::carried(LARGEST / 2f64.powi(39));
    Case::of(name, inputs, run, Tolerance::ulps(8.).and(smallest))
}

fn epilogues() -> Vec<Case> {
    let (m, k, n) = (65, 127, 33);
    let plain = MatmulOptions { scale: 0.125, ..MatmulOptions::default() };
    let inputs = || {
        let (a, b) = (Input::uniform("a", &[m, k], 1.), Input::uniform("b", &[k, n], 1.));
        vec![a, b, Input::uniform("bias", &[n], 1.)]
    };
    let product = Tolerance::accumulate(k, 1.);
    // Gradients sum up to 127 products; an activation's derivative is at most 1.2 and carries the forward's error.
    let backward = Tolerance::accumulate(k, 2.).and(Tolerance::cancelling(16., 4.)).storing(2.);
    let with = move |activation| MatmulOptions { activation: Some(activation), ..plain };
    let pair = || inputs()[..2].to_vec();
    let mut cases = vec![
        of_rule("scale", &MATMUL, plain, pair(), (product, backward)),
        of_rule("scale and bias", &MATMUL, plain, inputs(), (product, backward)),
    ];
    // An activation adds its own roundings to values of at most 4; a kink of relu may fall to either side of a rounding.
    let after = product.and(Tolerance::cancelling(8., 2.));
    for (name, kind, f16) in
        [("relu", Unary::Relu, false), ("gelu", Unary::Gelu, true), ("tanh", Unary::Tanh, true)]
    {
        // For the backward the tape keeps what goes into the activation.
        let tolerance = (after.storing(1.), backward.storing(4.));
        let on_tape = of_rule(format!("{name} on the tape"), &MATMUL, with(kind), inputs(), tolerance);
        let fused = move |_: &Run, inputs: &[Tensor]| {
            Ok(vec![("out".into(), matmul_op(&inputs[0], &inputs[1], Some(&inputs[2]), &with(kind))?)])
        };
        cases.extend([Case { f16, ..on_tape }, Case::of(format!("{name} fused"), inputs(), fused, after)]);
    }
    cases
}

pub(super) fn cosine_similarity() -> Vec<Case> {
    let mut cases = vec![];
    for (name, pairing) in [("pairs", Pairing::Pairs), ("all pairs", Pairing::AllPairs)] {
        for (n, m, d) in [(1, 1, 1), (7, 9, 31), (65, 33, 64), (3, 5, 257), (0, 0, 4)] {
            let m = if pairing == Pairing::Pairs { n } else { m };
            let inputs = vec![
                Input::uniform("x", &[n, d], 1.).map(|_, v| v + v.signum()),
                Input::uniform("y", &[m, d], 1.).map(|_, v| v + v.signum()),
            ];
            // A sum of d products of rows of length one; gradients sum up to 65 of them over norms of at least 1.
            let forward = Tolerance::accumulate(d, 1. / (d as f64).sqrt()).and(Tolerance::cancelling(8., 1.));
            let backward = Tolerance::accumulate(d.max(n).max(m) + 16, 1.);
            cases.push(of_rule(
                format!("{name} {n} {m} {d}"),
                &COSINE_SIMILARITY,
                pairing,
                inputs,
                (forward, backward),
            ));
        }
        let zero = Input::of(&[2, 2], &[0., 0., 3., 4.]);
        let both = vec![zero, Input::of(&[2, 2], &[1., 2., 3., 4.])];
        let tolerance = (Tolerance::ulps(8.), Tolerance::cancelling(16., 1.));
        cases.push(of_rule(format!("{name}, a zero row"), &COSINE_SIMILARITY, pairing, both, tolerance));
        // Its gradient is 0, and that of the other side a sum of its zeros.
        let zeros = vec![Input::of(&[3, 5], &[0.; 15]), Input::integers("y", &[3, 5])];
        cases.push(of_rule(format!("{name}, zero rows, exactly"), &COSINE_SIMILARITY, pairing, zeros, EXACT));
        // The gradient of such rows is 0 up to the rounding of rows of length one, over their length.
        for (size, gradient) in [(1e-20, 1e20), (1e20, 1e-20)] {
            let x = || Input::of(&[2, 3], &[size; 6]);
            let tolerance = (Tolerance::ulps(8.), Tolerance::cancelling(16., gradient));
            let name = format!("{name}, entries of {size:e} with themselves");
            cases.push(of_rule(name, &COSINE_SIMILARITY, pairing, vec![x(), x()], tolerance).f32_only());
        }
    }
    cases
}

/// A product of m × k by k × n, or so many of them: the forward alone, and with the backward where `both`.
pub(super) fn product_bench(
    name: String,
    (batch, m, k, n): (usize, usize, usize, usize),
    (transpose_a, transpose_b): (bool, bool),
    both: bool,
    precision: Precision,
) -> Bench {
    let make = move || {
        let [a, b] = [(transpose_a, m, k), (transpose_b, k, n)]
            .map(|(swap, rows, cols)| if swap { [batch, cols, rows] } else { [batch, rows, cols] });
        let inputs = vec![Input::uniform("a", &a, 1.), Input::uniform("b", &b, 1.)];
        let options = MatmulOptions { transpose_a, transpose_b, precision, ..MatmulOptions::default() };
        if both {
            of_rule("both", &MATMUL, options, inputs, EXACT)
        } else {
            of_forward(&MATMUL, options, inputs)
        }
    };
    let (products, moved) = if both { (3., 2) } else { (1., 1) };
    let flops = products * 2. * (batch * m * n * k) as f64;
    Bench::new(name, flops, moved * batch * (m * k + k * n + m * n), make)
}

/// The forward of a product of squares.
pub(super) fn square(n: usize) -> Bench {
    product_bench(format!("square {n}"), (1, n, n, n), (false, false), false, Precision::Strict)
}

pub(super) fn matmul_bench() -> Vec<Bench> {
    let strict = |name: String, sizes, transposes, both| {
        product_bench(name, sizes, transposes, both, Precision::Strict)
    };
    let plain = (false, false);
    let mut benches: Vec<_> = [64, 128, 256, 512, 1024, 2048, 4096, 8192].map(square).into();
    for n in [256, 2048] {
        benches.push(strict(format!("square {n}, AᵀB"), (1, n, n, n), (true, false), false));
        benches.push(strict(format!("square {n}, ABᵀ"), (1, n, n, n), (false, true), false));
    }
    for n in [1024, 4096, 8192] {
        benches.push(square(n).in_f16());
        benches.push(product_bench(format!("square {n}, fast"), (1, n, n, n), plain, false, Precision::Fast));
    }
    benches.extend([
        strict("1024x128 by 128x64".into(), (1, 1024, 128, 64), plain, false),
        strict("8192x512 by 512x64".into(), (1, 8192, 512, 64), plain, false),
        strict("64 of 32x32".into(), (64, 32, 32, 32), plain, false),
        strict("64 of 64x64".into(), (64, 64, 64, 64), plain, false),
        strict("square 256, both".into(), (1, 256, 256, 256), plain, true),
        strict("square 2048, both".into(), (1, 2048, 2048, 2048), plain, true),
    ]);
    benches
}

pub(super) fn cosine_similarity_bench() -> Vec<Bench> {
    let of = |(n, d): (usize, usize)| {
        let inputs = move || vec![Input::uniform("x", &[n, d], 1.), Input::uniform("y", &[n, d], 1.)];
        let make = move || of_rule("all pairs", &COSINE_SIMILARITY, Pairing::AllPairs, inputs(), EXACT);
        Bench::new(format!("{n} by {n}, d {d}, both"), 6. * (n * n * d) as f64, 2 * n * n + 4 * n * d, make)
    };
    [(256, 128), (4096, 512)].map(of).into()
}
