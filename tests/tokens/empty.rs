//! Sequences without a token, batches without a sample, one token.

use crate::shared;
use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{
    BottleneckFusion, CoAttention, CrossAttention, GatedCrossAttention, MergedEncoder, Presence, Resampler,
    TokenBatch,
};
use crossmodal::nn::{
    Encoder, EncoderOptions, MultiHeadAttention, MultiHeadSizes, NormPlace, Parameters, generator,
};
use crossmodal::ops::{AttentionOptions, Mask};
use crossmodal::{DType, Device, Tensor};

fn tokens(tape: &Tape, device: &Device, shape: [usize; 3]) -> Var {
    let values = (0..shape.iter().product()).map(|i: usize| (i * 37 % 19) as f64 / 9. - 1.).collect();
    tape.leaf(&Tensor::from_f64(device, &shape, DType::F32, values).unwrap())
}

/// The shape of what came out is that of its place, and its gradient that of the input.
fn check(tape: &Tape, x: &Var, y: &Var, shape: [usize; 3]) {
    assert_eq!(y.value().shape(), shape);
    let gradients = tape.backward_from(y, y.value()).unwrap();
    for values in [y.value(), gradients.get(x).unwrap()] {
        assert!(values.to_vec::<f32>().unwrap().iter().all(|v| v.is_finite()), "{shape:?}");
    }
    assert_eq!(gradients.get(x).unwrap().shape(), x.value().shape());
}

#[test]
fn sizes_of_nothing_and_of_one() {
    for device in [Device::Cpu, shared::gpu()] {
        let (mut p, mut random) = (Parameters::default(), generator(0, 0));
        let options = EncoderOptions::new(4, 2);
        let attention = MultiHeadAttention::new(&device, &mut p, "a", MultiHeadSizes::new(4, 2), &mut random);
        let encoder = Encoder::new(&device, &mut p, "e", 1, &options, &mut random).unwrap();
        let cross = CrossAttention::new(&device, &mut p, "x", 4, &options, &mut random).unwrap();
        let gated = GatedCrossAttention::new(&device, &mut p, "g", 4, &options, &mut random).unwrap();
        let merged = MergedEncoder::new(&device, &mut p, "m", &[4, 4], 1, &options, &mut random).unwrap();
        let few =
            BottleneckFusion::new(&device, &mut p, "b", &[4, 4], (2, 2), &options, &mut random).unwrap();
        let resampler = Resampler::new(&device, &mut p, "r", &[4, 4], (2, 2), &options, &mut random).unwrap();
        let after = EncoderOptions { norm: NormPlace::After, ..options };
        let co = CoAttention::new(&device, &mut p, "c", &[after, options], &mut random).unwrap();
        for (batch, queries, keys) in [(2, 3, 0), (2, 0, 3), (0, 3, 2), (1, 1, 1), (2, 0, 0)] {
            let (tape, shape) = (Tape::new(), [batch, queries, 4]);
            let bound = p.on(&tape);
            let (x, c) = (tokens(&tape, &device, shape), tokens(&tape, &device, [batch, keys, 4]));
            let mask = Mask::keep(&[batch, keys], &vec![true; batch * keys]);
            let own = AttentionOptions { key_mask: Some(mask.clone()), ..Default::default() };
            let y = attention.as_ref().unwrap().forward(&tape, &bound, &x, &c, &c, &own).unwrap().out;
            check(&tape, &x, &y, shape);
            let y = encoder.forward(&tape, &bound, &c, Some(&mask), None).unwrap();
            check(&tape, &c, &y, [batch, keys, 4]);
            let presence = Presence::all(batch, 2);
            let both = TokenBatch { tokens: &[&x, &c], masks: &[None, Some(&mask)], presence: &presence };
            check(&tape, &x, &cross.forward(&tape, &bound, &both, None).unwrap(), shape);
            check(&tape, &x, &gated.forward(&tape, &bound, &both, None).unwrap(), shape);
            let [y, z] = co.forward(&tape, &bound, &both, None).unwrap();
            check(&tape, &x, &y, shape);
            check(&tape, &c, &z, [batch, keys, 4]);
            let all = merged.forward(&tape, &bound, &both, None).unwrap();
            check(&tape, &x, &all[0], shape);
            check(&tape, &c, &all[1], [batch, keys, 4]);
            let all = few.forward(&tape, &bound, &both, None).unwrap();
            check(&tape, &x, &all.tokens[0], shape);
            check(&tape, &c, &all.tokens[1], [batch, keys, 4]);
            check(&tape, &x, &all.bottleneck, [batch, 2, 4]);
            check(&tape, &c, &resampler.forward(&tape, &bound, &both, None).unwrap(), [batch, 2, 4]);
        }
    }
}
