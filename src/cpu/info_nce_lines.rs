//! What a row or a column of logits aims at, which of its entries compete, and what it comes to.

use super::info_nce::Partial;
use crate::device::Device;
use crate::error::Result;
use crate::reference::{Codes, InfoNce, Reduction, TargetKind};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Sums over the entries of a line.
#[derive(Clone, Copy, Default)]
pub(super) struct Aim {
    /// Of target weight times logit.
    aimed: f64,
    /// Of target weights.
    mass: f64,
    /// Of logits.
    total: f64,
    /// Of ones.
    count: f64,
}

impl Aim {
    pub(super) fn add(&mut self, other: Aim) {
        self.aimed += other.aimed;
        self.mass += other.mass;
        self.total += other.total;
        self.count += other.count;
    }

    fn entry(&mut self, logit: f32, target: f64) {
        // A target of 0 aims at nothing, whatever the logit.
        self.aimed += if target > 0. { target * f64::from(logit) } else { 0. };
        self.mass += target;
        self.total += f64::from(logit);
        self.count += 1.;
    }
}

/// The lines of a problem.
pub(super) struct Lines<'a> {
    problem: &'a InfoNce,
    soft: Option<Cow<'a, [f32]>>,
    /// The bonus of a negative's logit, as a part of it.
    bonus: f32,
    scale: f32,
    /// Row i's only positive is column i, and every entry competes.
    plain: bool,
}

/// What the gradient needs of each line, with the upstream gradient and the scale in it.
pub(super) struct Factors {
    pub(super) max: Vec<f32>,
    /// Of the exponentials.
    pub(super) exp: Vec<f32>,
    /// Of the targets.
    target: Vec<f32>,
    /// Of every entry.
    every: Vec<f32>,
}

/// Those of a block's columns.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) max: &'a [f32],
    pub(super) exp: &'a [f32],
    target: &'a [f32],
    every: &'a [f32],
}

impl Factors {
    pub(super) fn columns(&self, range: Range<usize>) -> Columns<'_> {
        let Factors { max, exp, target, every } = self;
        Columns {
            max: &max[range.clone()],
            exp: &exp[range.clone()],
            target: &target[range.clone()],
            every: &every[range],
        }
    }
}

impl<'a> Lines<'a> {
    pub(super) fn new(problem: &'a InfoNce, soft: Option<Cow<'a, [f32]>>, scale: f32) -> Lines<'a> {
        let plain = problem.targets == TargetKind::Codes
            && [&problem.rows, &problem.cols] == [&Codes::Index; 2]
            && (problem.smoothing, problem.hard_negatives) == (0., 0.)
            && !problem.decoupled
            && !problem.exclude_self;
        Lines {
            problem,
            soft,
            bonus: if problem.hard_negatives == 0. { 0. } else { problem.hard_negatives as f32 / scale },
            scale,
            plain,
        }
    }

    fn target(&self, i: usize, j: usize) -> f64 {
        match (self.problem.targets, &self.soft) {
            (TargetKind::Soft, Some(soft)) => soft[i * self.problem.m + j].into(),
            _ => self.problem.target(&[], i, j),
        }
    }

    /// The positive of a row in a block where there is one only.
    fn positive(i: usize, first_col: usize, cols: usize) -> Option<usize> {
        i.checked_sub(first_col).filter(|&j| j < cols)
    }

    /// What a row of logits from column `first_col` on aims at.
    pub(super) fn aim_row(&self, row: &[f32], i: usize, first_col: usize) -> Aim {
        let mut aim = Aim::default();
        if self.plain {
            // Without smoothing nobody asks for the others.
            Self::positive(i, first_col, row.len()).into_iter().for_each(|j| aim.entry(row[j], 1.));
            return aim;
        }
        for (j, &logit) in (first_col..).zip(row) {
            if self.problem.keeps(i, j) {
                aim.entry(logit, self.target(i, j));
            }
        }
        aim
    }

    /// The same for the columns of a block.
    pub(super) fn aim_columns(
        &self,
        logits: &[f32],
        (first_row, rows, first_col, cols): (usize, usize, usize, usize),
        aims: &mut [Aim],
    ) {
        if self.plain {
            for i in first_row.max(first_col)..(first_row + rows).min(first_col + cols) {
                aims[i - first_col].entry(logits[(i - first_row) * cols + i - first_col], 1.);
            }
            return;
        }
        aims.par_iter_mut().enumerate().with_min_len(64).for_each(|(at, aim)| {
            for (r, &logit) in logits.iter().skip(at).step_by(cols).enumerate() {
                let (i, j) = (first_row + r, first_col + at);
                if self.problem.keeps(i, j) {
                    aim.entry(logit, self.target(i, j));
                }
            }
        });
    }

    /// Turns logits into what competes: negatives with their bonus, −∞ where nothing does.
    pub(super) fn compete(&self, row: &mut [f32], i: usize, first_col: usize) {
        if self.plain {
            return;
        }
        for (j, logit) in (first_col..).zip(row) {
            let target = self.target(i, j) > 0.;
            if !self.problem.keeps(i, j) || (target && self.problem.decoupled) {
                *logit = f32::NEG_INFINITY;
            } else if !target {
                *logit += *logit * self.bonus;
            }
        }
    }

    /// Both for the logits that a row has to itself, which are all negatives.
    pub(super) fn aim_own(&self, row: &mut [f32], i: usize) -> Aim {
        let mut aim = Aim::default();
        if self.problem.rows.masks(i) {
            row.fill(f32::NEG_INFINITY);
            return aim;
        }
        for logit in row {
            aim.entry(*logit, 0.);
            *logit += *logit * self.bonus;
        }
        aim
    }

    fn counts(&self, mass: f64, count: f64) -> bool {
        if self.problem.targets == TargetKind::None { count > 0. } else { mass > 0. }
    }

    /// The loss of a line; none for one that does not count.
    pub(super) fn loss(&self, partial: Partial, aim: &Aim) -> Option<f64> {
        if !self.counts(aim.mass, aim.count) {
            return None;
        }
        if partial.sum == 0. {
            return Some(0.);
        }
        let smoothing = self.problem.smoothing;
        let aimed = match (self.problem.targets, smoothing) {
            (TargetKind::None, _) => 0.,
            (_, 0.) => aim.aimed / aim.mass,
            _ => (1. - smoothing) * aim.aimed / aim.mass + smoothing * aim.total / aim.count,
        };
        Some(f64::from(partial.max) - aimed + f64::from(partial.sum).ln())
    }

    /// What the backward needs: (maximum, sum, mass, count) of each line.
    pub(super) fn tensor(&self, partials: &[Partial], aims: &[Aim]) -> Result<Tensor> {
        let line = |(p, aim): (&Partial, &Aim)| [p.max, p.sum, aim.mass as f32, aim.count as f32];
        let values = partials.iter().zip(aims).flat_map(line).collect();
        Tensor::from_vec::<f32>(&Device::Cpu, &[partials.len(), 4], values)
    }

    /// What the gradient needs of the lines that [`tensor`](Self::tensor) was given.
    pub(super) fn factors(&self, lines: &Tensor, upstream: &[f32]) -> Factors {
        let values = super::f32s(lines);
        let lines: Vec<&[f32]> = values.chunks_exact(4).collect();
        let counting = lines.iter().filter(|line| self.counts(line[2].into(), line[3].into())).count();
        let half = if self.problem.symmetric { 0.5 } else { 1. };
        let shared = half * self.scale
            / if self.problem.reduction == Reduction::Mean { counting.max(1) as f32 } else { 1. };
        let mut factors = Factors { max: vec![], exp: vec![], target: vec![], every: vec![] };
        for (i, &line) in lines.iter().enumerate() {
            let [max, sum, mass, count] = *line else { unreachable!("four numbers a line") };
            let g = shared * upstream[if self.problem.reduction == Reduction::None { i } else { 0 }];
            let works = self.counts(mass.into(), count.into()) && sum != 0.;
            let aims = works && self.problem.targets != TargetKind::None;
            let smoothing = self.problem.smoothing as f32;
            // A maximum that nothing comes near: the exponential is then as small as can be, and its factor 0.
            factors.max.push(if works { max } else { f32::MAX });
            factors.exp.push(if works { g / sum } else { 0. });
            factors.target.push(if aims { g * (1. - smoothing) / mass } else { 0. });
            factors.every.push(if aims && smoothing > 0. { g * smoothing / count } else { 0. });
        }
        factors
    }

    /// Takes the targets from the weighted probabilities of a row, and clears what is no entry or does not compete.
    pub(super) fn subtract_targets(
        &self,
        row: &mut [f32],
        i: usize,
        first_col: usize,
        rows: &Factors,
        columns: Option<&Columns<'_>>,
    ) {
        let of = |j: usize| columns.map_or((0., 0.), |c| (c.target[j], c.every[j]));
        if self.plain {
            if let Some(j) = Self::positive(i, first_col, row.len()) {
                row[j] -= rows.target[i] + of(j).0;
            }
            return;
        }
        for (at, v) in row.iter_mut().enumerate() {
            let j = first_col + at;
            if !self.problem.keeps(i, j) {
                *v = 0.;
                continue;
            }
            let target = self.target(i, j) as f32;
            let (col_target, col_every) = of(at);
            if target > 0. && self.problem.decoupled {
                *v = 0.;
            }
            *v -= target * (rows.target[i] + col_target) + (rows.every[i] + col_every);
        }
    }

    /// The same for what a row has to itself.
    pub(super) fn subtract_own(&self, row: &mut [f32], i: usize, rows: &Factors) {
        if self.problem.rows.masks(i) {
            row.fill(0.);
        } else {
            row.iter_mut().for_each(|v| *v -= rows.every[i]);
        }
    }
}
