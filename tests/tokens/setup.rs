//! Fusions of tokens, set up with and without gaps.

use crate::trial::Trial;
use crossmodal::Device;
use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{
    BottleneckFusion, CoAttention, CrossAttention, GatedCrossAttention, MergedEncoder, Presence, Resampler,
    TokenBatch,
};
use crossmodal::nn::{Bound, DropoutStep, EncoderOptions, NormPlace, Parameters, generator};
use crossmodal::ops::Mask;

pub(crate) const BATCH: usize = 4;
pub(crate) const LENGTHS: [usize; 3] = [3, 2, 2];
pub(crate) const WIDTHS: [usize; 3] = [6, 4, 6];
/// Of each modality: the first sample lacks none, the others lack one, or all.
pub(crate) const PRESENT: [[bool; BATCH]; 3] =
    [[true, true, false, false], [true, false, true, false], [true, true, true, false]];
pub(crate) const PADDED: [bool; BATCH * LENGTHS[0]] =
    [true, false, true, true, true, false, true, true, true, true, true, true];
pub(crate) const STEP: DropoutStep = DropoutStep { seed: 1, step: 2, first_row: 0 };

pub(crate) type Forward = dyn Fn(&Tape, &Bound, &TokenBatch<'_>) -> Vec<Var>;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Cross,
    Gated,
    Co,
    Merged,
    Bottleneck,
    Resampler,
}

pub(crate) const KINDS: [Kind; 6] =
    [Kind::Cross, Kind::Gated, Kind::Co, Kind::Merged, Kind::Bottleneck, Kind::Resampler];

/// Those whose attention is from one modality to another.
pub(crate) const ATTENDING: [Kind; 3] = [Kind::Cross, Kind::Gated, Kind::Co];

/// A fusion, whether something is missing, and what it drops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub kind: Kind,
    pub norm: NormPlace,
    pub gaps: bool,
    pub dropout: f64,
}

pub(crate) fn setups() -> Vec<Setup> {
    let mut all = vec![];
    for kind in KINDS {
        for norm in [NormPlace::Before, NormPlace::After] {
            if kind != Kind::Gated || norm == NormPlace::Before {
                all.extend([false, true].map(|gaps| Setup { kind, norm, gaps, dropout: 0. }));
            }
        }
    }
    all
}

impl Setup {
    pub(crate) fn modalities(self) -> usize {
        if ATTENDING.contains(&self.kind) { 2 } else { 3 }
    }

    pub(crate) fn options(self, width: usize, first_dropout: u64) -> EncoderOptions {
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

    pub(crate) fn is_there(self, m: usize, token: usize) -> bool {
        !self.gaps || PRESENT[m][token / LENGTHS[m]] && (m > 0 || PADDED[token])
    }

    pub(crate) fn presence(self) -> Presence {
        match self.gaps {
            false => Presence::all(BATCH, self.modalities()),
            true => {
                let of = PRESENT[..self.modalities()].iter().map(|own| Some(own[..].into()));
                Presence::new(BATCH, of.collect()).unwrap()
            }
        }
    }

    pub(crate) fn fusion(self, p: &mut Parameters) -> Box<Forward> {
        let (cpu, mut random) = (Device::Cpu, generator(0, 0));
        let step = (self.dropout > 0.).then_some(STEP);
        let wide = self.options(6, 0);
        match self.kind {
            Kind::Cross => {
                let own = CrossAttention::new(&cpu, p, "f", WIDTHS[1], &wide, &mut random).unwrap();
                Box::new(move |tape, bound, x| vec![own.forward(tape, bound, x, step.as_ref()).unwrap()])
            }
            Kind::Gated => {
                let own = GatedCrossAttention::new(&cpu, p, "f", WIDTHS[1], &wide, &mut random).unwrap();
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
            Kind::Bottleneck => {
                let own = BottleneckFusion::new(&cpu, p, "f", &WIDTHS, (2, 2), &wide, &mut random).unwrap();
                Box::new(move |tape, bound, x| {
                    let mut y = own.forward(tape, bound, x, step.as_ref()).unwrap();
                    y.tokens.push(y.bottleneck);
                    y.tokens
                })
            }
            Kind::Resampler => {
                let own = Resampler::new(&cpu, p, "f", &WIDTHS, (2, 2), &wide, &mut random).unwrap();
                Box::new(move |tape, bound, x| vec![own.forward(tape, bound, x, step.as_ref()).unwrap()])
            }
        }
    }

    pub(crate) fn trial(self) -> Trial<'static> {
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
}
