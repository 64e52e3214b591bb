//! What fusions of tokens are made with: numbers for dropout, refusals.

use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{
    BottleneckFusion, CoAttention, CrossAttention, GatedCrossAttention, MergedEncoder, Presence, Resampler,
    TokenBatch,
};
use crossmodal::nn::{EncoderOptions, NormPlace, Parameters, generator};
use crossmodal::ops::Mask;
use crossmodal::{DType, Device, Tensor};

#[test]
fn every_dropout_has_a_number_of_its_own() {
    let mut p = Parameters::default();
    let options = |width, first_dropout| EncoderOptions {
        dropout: 0.5,
        first_dropout,
        ..EncoderOptions::new(width, 2)
    };
    let (cpu, mut random) = (Device::Cpu, generator(0, 0));
    let cross = CrossAttention::new(&cpu, &mut p, "a", 4, &options(6, 0), &mut random).unwrap();
    let gated = GatedCrossAttention::new(&cpu, &mut p, "g", 4, &options(6, 0), &mut random).unwrap();
    let co = CoAttention::new(&cpu, &mut p, "b", &[options(6, 0), options(4, 3)], &mut random).unwrap();
    let merged = MergedEncoder::new(&cpu, &mut p, "c", &[6, 4, 6], 3, &options(6, 0), &mut random).unwrap();
    let (widths, random) = ([6, 4, 6], &mut random);
    let few = BottleneckFusion::new(&cpu, &mut p, "f", &widths, (2, 2), &options(6, 0), random).unwrap();
    let (gated, few) = ((format!("{gated:?}"), 2), (format!("{few:?}"), 12));
    let resampler = Resampler::new(&cpu, &mut p, "r", &widths, (2, 2), &options(6, 0), random).unwrap();
    let resampler = (format!("{resampler:?}"), 4);
    for (debug, count) in
        [resampler, gated, few, (format!("{cross:?}"), 2), (format!("{co:?}"), 6), (format!("{merged:?}"), 6)]
    {
        for layer in 0..count {
            assert_eq!(debug.matches(&format!("layer: {layer} }}")).count(), 1, "{layer}: {debug}");
        }
        assert_eq!(debug.matches("Dropout {").count(), count, "{debug}");
    }
    let same = CoAttention::new(&cpu, &mut p, "d", &[options(6, 0), options(4, 2)], random).unwrap_err();
    assert!(same.to_string().contains("first_dropout: expected numbers 3 apart"), "{same}");
}

#[test]
fn what_cannot_be_made_is_refused() {
    let (cpu, mut p, sound) = (Device::Cpu, Parameters::default(), EncoderOptions::new(6, 2));
    let random = || generator(0, 0);
    let narrow = EncoderOptions { width: 0, ..sound };
    let after = EncoderOptions { norm: NormPlace::After, ..sound };
    let gated = |p: &mut Parameters, context, options| {
        GatedCrossAttention::new(&cpu, p, "g", context, options, &mut random()).map(drop)
    };
    let few = |p: &mut Parameters, widths: &[usize], sizes, options| {
        BottleneckFusion::new(&cpu, p, "b", widths, sizes, options, &mut random()).map(drop)
    };
    let resampler = |p: &mut Parameters, widths: &[usize], sizes, options| {
        Resampler::new(&cpu, p, "r", widths, sizes, options, &mut random()).map(drop)
    };
    let refused = [
        (resampler(&mut p, &[], (1, 1), &sound), "at least one modality"),
        (resampler(&mut p, &[6], (0, 1), &sound), "Resampler: sizes: expected at least one latent and layer"),
        (resampler(&mut p, &[6], (1, 0), &sound), "Resampler: sizes: expected at least one latent and layer"),
        (resampler(&mut p, &[6], (1, 1), &narrow), "at least one feature"),
        (few(&mut p, &[], (1, 1), &sound), "at least one modality"),
        (few(&mut p, &[6, 0], (1, 1), &sound), "at least one modality, each of at least one feature"),
        (few(&mut p, &[6], (0, 1), &sound), "sizes: expected at least one shared token and layer"),
        (few(&mut p, &[6], (1, 0), &sound), "sizes: expected at least one shared token and layer"),
        (few(&mut p, &[6], (1, 1), &narrow), "at least one feature"),
        (gated(&mut p, 4, &after), "GatedCrossAttention: norm: expected norms before"),
        (gated(&mut p, 4, &narrow), "at least one feature"),
        (gated(&mut p, 0, &sound), "at least one feature"),
        (CrossAttention::new(&cpu, &mut p, "a", 0, &sound, &mut random()).map(drop), "at least one feature"),
        (CrossAttention::new(&cpu, &mut p, "b", 4, &narrow, &mut random()).map(drop), "at least one feature"),
        (
            CoAttention::new(&cpu, &mut p, "c", &[sound, narrow], &mut random()).map(drop),
            "at least one feature",
        ),
        (
            MergedEncoder::new(&cpu, &mut p, "d", &[], 1, &sound, &mut random()).map(drop),
            "at least one modality",
        ),
        (
            MergedEncoder::new(&cpu, &mut p, "e", &[6], 0, &sound, &mut random()).map(drop),
            "layers: expected at least one",
        ),
    ];
    for (made, want) in refused {
        let message = made.unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    }
    assert!(p.is_empty(), "nothing is left of what was refused");
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let (cpu, mut p, sound) = (Device::Cpu, Parameters::default(), EncoderOptions::new(6, 2));
    let made = CrossAttention::new(&cpu, &mut p, "f", 4, &sound, &mut generator(0, 0)).unwrap();
    let tape = Tape::no_grad();
    let leaf = |shape: [usize; 3]| tape.leaf(&Tensor::zeros(&cpu, &shape, DType::F32).unwrap());
    let (x, c, wide, short) = (leaf([2, 3, 6]), leaf([2, 5, 4]), leaf([2, 5, 6]), leaf([1, 5, 4]));
    let (two, three) = (Presence::all(2, 2), Presence::all(2, 3));
    let forward = |tokens: &[&Var], masks: &[Option<&Mask>], presence: &Presence| {
        let batch = TokenBatch { tokens, masks, presence };
        made.forward(&tape, &p.on(&tape), &batch, None).unwrap_err().to_string()
    };
    let mask = Mask::keep(&[2, 4], &[true; 8]);
    let messages = [
        (forward(&[&x], &[], &two), "CrossAttention: tokens: expected one for each of 2 modalities, got 1"),
        (forward(&[&x, &c], &[], &three), "presence: expected one for each of 2 modalities, got 3"),
        (forward(&[&x, &c], &[None], &two), "masks: expected one for each of 2 modalities, got 1"),
        (forward(&[&x, &wide], &[], &two), "tokens: expected three axes: batch, length, a width of 4"),
        (forward(&[&x, &short], &[], &two), "tokens: expected a batch of 2, as the presence has it, got 1"),
        (forward(&[&x, &c], &[None, Some(&mask)], &two), "key_mask: expected shape [2, 5]"),
    ];
    let messages = messages.into_iter().chain(of_the_others(&x));
    for (message, want) in messages {
        assert!(message.contains(want), "{message}");
    }
}

/// One modality where two are due, said by each in its own name.
fn of_the_others(x: &Var) -> [(String, &'static str); 3] {
    let (cpu, mut p, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(6, 2));
    let (tape, mut random, presence) = (Tape::no_grad(), generator(0, 0), Presence::all(2, 2));
    let gated = GatedCrossAttention::new(&cpu, &mut p, "g", 4, &options, &mut random).unwrap();
    let few = BottleneckFusion::new(&cpu, &mut p, "b", &[6, 4], (1, 1), &options, &mut random).unwrap();
    let resampler = Resampler::new(&cpu, &mut p, "r", &[6, 4], (1, 1), &options, &mut random).unwrap();
    let (batch, bound) = (TokenBatch { tokens: &[x], masks: &[], presence: &presence }, p.on(&tape));
    let results = [
        (gated.forward(&tape, &bound, &batch, None).map(drop), "GatedCrossAttention: tokens: expected one"),
        (few.forward(&tape, &bound, &batch, None).map(drop), "BottleneckFusion: tokens: expected one"),
        (resampler.forward(&tape, &bound, &batch, None).map(drop), "Resampler: tokens: expected one"),
    ];
    results.map(|(result, want)| (result.unwrap_err().to_string(), want))
}
