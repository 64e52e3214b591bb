//! Fusions of tokens: cross-attention, co-attention, the merged encoder.

use crate::common;
use crate::plain::{Plain, Tokens};
use crate::trial::{Trial, close, sample};
use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{CoAttention, CrossAttention, MergedEncoder, Presence, TokenBatch};
use crossmodal::nn::{Bound, DropoutStep, EncoderOptions, NormPlace, Parameters, generator};
use crossmodal::ops::{AttentionWeights, Mask};
use crossmodal::{DType, Device, Tensor};

const BATCH: usize = 4;
const LENGTHS: [usize; 3] = [3, 2, 2];
const WIDTHS: [usize; 3] = [6, 4, 6];
/// Of each modality: the first sample lacks none, the others lack one, or all.
const PRESENT: [[bool; BATCH]; 3] =
    [[true, true, false, false], [true, false, true, false], [true, true, true, false]];
const PADDED: [bool; BATCH * LENGTHS[0]] =
    [true, false, true, true, true, false, true, true, true, true, true, true];
const STEP: DropoutStep = DropoutStep { seed: 1, step: 2, first_row: 0 };

type Forward = dyn Fn(&Tape, &Bound, &TokenBatch<'_>) -> Vec<Var>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Cross,
    Co,
    Merged,
}

const KINDS: [Kind; 3] = [Kind::Cross, Kind::Co, Kind::Merged];

/// A fusion, whether something is missing, and what it drops.
#[derive(Debug, Clone, Copy)]
struct Setup {
    kind: Kind,
    norm: NormPlace,
    gaps: bool,
    dropout: f64,
}

fn setups() -> Vec<Setup> {
    let mut all = vec![];
    for kind in KINDS {
        for norm in [NormPlace::Before, NormPlace::After] {
            all.extend([false, true].map(|gaps| Setup { kind, norm, gaps, dropout: 0. }));
        }
    }
    all
}

impl Setup {
    fn modalities(self) -> usize {
        if self.kind == Kind::Merged { 3 } else { 2 }
    }

    fn options(self, width: usize, first_dropout: u64) -> EncoderOptions {
        let (norm, dropout) = (self.norm, self.dropout);
        EncoderOptions {
            norm,
            dropout,
            first_dropout,
            kv_heads: 1,
            hidden: 5,
            ..EncoderOptions::new(width, 2)
        }
    }

    fn is_there(self, m: usize, token: usize) -> bool {
        !self.gaps || PRESENT[m][token / LENGTHS[m]] && (m > 0 || PADDED[token])
    }

    fn presence(self) -> Presence {
        match self.gaps {
            false => Presence::all(BATCH, self.modalities()),
            true => {
                let of = PRESENT[..self.modalities()].iter().map(|own| Some(own[..].into()));
                Presence::new(BATCH, of.collect()).unwrap()
            }
        }
    }

    fn fusion(self, p: &mut Parameters) -> Box<Forward> {
        let (cpu, mut random) = (Device::Cpu, generator(0, 0));
        let step = (self.dropout > 0.).then_some(STEP);
        let wide = self.options(6, 0);
        match self.kind {
            Kind::Cross => {
                let own = CrossAttention::new(&cpu, p, "f", WIDTHS[1], &wide, &mut random).unwrap();
                Box::new(move |tape, bound, x| vec![own.forward(tape, bound, x, step.as_ref()).unwrap()])
            }
            Kind::Co => {
                let own = CoAttention::new(&cpu, p, "f", &[wide, self.options(4, 3)], &mut random).unwrap();
                Box::new(move |tape, bound, x| own.forward(tape, bound, x, step.as_ref()).unwrap().into())
            }
            Kind::Merged => {
                let own = MergedEncoder::new(&cpu, p, "f", &WIDTHS, 2, &wide, &mut random).unwrap();
                Box::new(move |tape, bound, x| own.forward(tape, bound, x, step.as_ref()).unwrap())
            }
        }
    }

    fn trial(self) -> Trial<'static> {
        let mut parameters = Parameters::default();
        let fusion = self.fusion(&mut parameters);
        let presence = self.presence();
        let padding = self.gaps.then(|| Mask::drop(&[BATCH, LENGTHS[0]], &PADDED.map(|there| !there)));
        let shapes: Vec<_> = (0..self.modalities()).map(|m| [BATCH, LENGTHS[m], WIDTHS[m]]).collect();
        let shapes: Vec<_> = shapes.iter().map(|shape| &shape[..]).collect();
        Trial::new(parameters, &shapes, move |tape, bound, x| {
            let masks = [padding.as_ref(), None, None];
            let masks = if padding.is_some() { &masks[..x.len()] } else { &[] };
            fusion(tape, bound, &TokenBatch { tokens: x, masks, presence: &presence })
        })
    }

    /// The results of one sample by the formulas.
    fn formula(self, plain: &Plain, x: &[Tokens], there: &[Vec<bool>]) -> Vec<Tokens> {
        let all = x;
        let cross = |name: &str, own: usize, other: usize| {
            plain.residual(&format!("{name}.attention_norm"), self.norm, &x[own], &|x| {
                if !there[other].contains(&true) {
                    return vec![vec![0.; x[0].len()]; x.len()];
                }
                let context = plain.norm(&format!("{name}.context_norm"), &all[other]);
                plain
                    .attention(&format!("{name}.attention"), (2, 1), [x, &context, &context], &|_, j| {
                        there[other][j]
                    })
                    .0
            })
        };
        let y = match self.kind {
            Kind::Cross => {
                let h = cross("f", 0, 1);
                vec![plain.residual("f.mlp_norm", self.norm, &h, &|h| plain.mlp("f.mlp", h))]
            }
            Kind::Co => {
                let one = |m: usize| {
                    let h = cross(&format!("f.{m}"), m, 1 - m);
                    plain.encoder_layer(&format!("f.{m}.layer"), self.norm, &h, &there[m])
                };
                vec![one(0), one(1)]
            }
            Kind::Merged => self.merged(plain, x, &there.concat()),
        };
        y.into_iter().zip(there).map(|(y, there)| Plain::kept(y, there)).collect()
    }

    fn merged(self, plain: &Plain, x: &[Tokens], there: &[bool]) -> Vec<Tokens> {
        let embedded = x.iter().enumerate().flat_map(|(m, x)| {
            let x = if WIDTHS[m] == 6 { x.clone() } else { plain.all(&format!("f.{m}"), x) };
            let own = &plain.get("f.modalities.weight")[m * 6..][..6];
            let row = |x: Vec<f64>| x.iter().zip(own).map(|(x, e)| x + e).collect::<Vec<_>>();
            x.into_iter().map(row).collect::<Tokens>()
        });
        let mut y: Tokens = embedded.collect();
        for i in 0..2 {
            y = plain.encoder_layer(&format!("f.encoder.{i}"), self.norm, &y, there);
        }
        if self.norm == NormPlace::Before {
            y = plain.norm("f.encoder.norm", &y);
        }
        LENGTHS.map(|length| y.drain(..length).collect()).into()
    }
}

#[test]
fn each_is_its_formula() {
    for setup in setups() {
        let trial = setup.trial();
        let plain = Plain::new(&trial.parameters);
        let got = trial.run(&Device::Cpu, DType::F64).results;
        let mut want = vec![vec![]; got.len()];
        for b in 0..BATCH {
            let x: Vec<_> = trial.inputs.iter().map(|x| sample(x, b)).collect();
            let there =
                |m: usize| (0..LENGTHS[m]).map(|i| setup.is_there(m, b * LENGTHS[m] + i)).collect::<Vec<_>>();
            let there: Vec<_> = (0..x.len()).map(there).collect();
            for (want, own) in want.iter_mut().zip(setup.formula(&plain, &x, &there)) {
                want.extend(own.concat());
            }
        }
        close(&got.concat(), &want.concat(), 1e-11, &format!("{setup:?}"));
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_on_every_device() {
    for setup in setups() {
        setup.trial().check(&format!("{setup:?}"));
    }
    for kind in KINDS {
        let setup = Setup { kind, norm: NormPlace::Before, gaps: true, dropout: 0.3 };
        setup.trial().check(&format!("{setup:?}"));
    }
}

#[test]
fn what_is_missing_leaves_no_trace() {
    for setup in setups().into_iter().filter(|setup| setup.gaps) {
        let what = format!("{setup:?}");
        setup.trial().leaves_no_trace(&|m, token| !setup.is_there(m, token), &what);
    }
}

/// Whatever the attention over the other modality is, a sample without that one is the same, to the bit.
#[test]
fn over_a_missing_modality_attention_adds_exactly_nothing() {
    for device in [Device::Cpu, common::gpu()] {
        for setup in setups().into_iter().filter(|setup| setup.gaps && setup.kind != Kind::Merged) {
            let mut trial = setup.trial();
            let before = trial.run(&device, DType::F32).results;
            for parameter in trial.parameters.iter_mut() {
                if ["f.attention.", "f.0.attention.", "f.1.attention."]
                    .iter()
                    .any(|own| parameter.name.starts_with(own))
                {
                    let (shape, count) = (parameter.value.shape().to_vec(), parameter.value.len());
                    parameter.value =
                        Tensor::from_f64(&Device::Cpu, &shape, DType::F64, vec![0.3; count]).unwrap();
                }
            }
            let after = trial.run(&device, DType::F32).results;
            for (m, (before, after)) in before.iter().zip(&after).enumerate() {
                let size = LENGTHS[m] * WIDTHS[m];
                for (b, (before, after)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
                    let both = PRESENT[m][b] && PRESENT[1 - m][b];
                    assert_eq!(before != after, both, "{setup:?} on {}: {m} of sample {b}", device.name());
                    assert_eq!(before.iter().any(|v| *v != 0.), PRESENT[m][b], "{setup:?}: {before:?}");
                }
            }
        }
    }
}

#[test]
fn weights_of_cross_attention_are_those_of_its_formula() {
    let setup = Setup { kind: Kind::Cross, norm: NormPlace::Before, gaps: true, dropout: 0. };
    let mut parameters = Parameters::default();
    let options = setup.options(6, 0);
    let made =
        CrossAttention::new(&Device::Cpu, &mut parameters, "f", 4, &options, &mut generator(0, 0)).unwrap();
    let presence = setup.presence();
    let trial = Trial::new(parameters, &[&[BATCH, 3, 6], &[BATCH, 2, 4]], |tape, bound, x| {
        let batch = TokenBatch { tokens: x, masks: &[], presence: &presence };
        let seen = made.forward_with_weights(tape, bound, &batch, None, AttentionWeights::PerHead).unwrap();
        vec![seen.weights.unwrap()]
    });
    let plain = Plain::new(&trial.parameters);
    let mut want = vec![];
    // The others lack the queries' tokens: what those look at means nothing.
    for (b, there) in PRESENT[1][..2].iter().enumerate() {
        let [x, c] = [0, 1].map(|m| sample(&trial.inputs[m], b));
        let (x, c) = (plain.norm("f.attention_norm", &x), plain.norm("f.context_norm", &c));
        let own = plain.attention("f.attention", (2, 1), [&x, &c, &c], &|_, _| *there);
        want.extend(own.1.concat().concat());
    }
    for device in [Device::Cpu, common::gpu()] {
        let got = trial.run(&device, DType::F32).results.concat();
        close(&got[..want.len()], &want, 1e-5, &format!("weights on {}", device.name()));
    }
}
