//! One vector a class, made of its prompts.

use super::classification::Labelled;
use crate::align::{COLS, UnitRows, pieces};
use crate::error::{Error, Result};
use crate::io::Features;
use crate::reference::l2_normalize;
use std::ops::Range;

/// `normalise(mean of normalise(p) over its prompts p)` of each class that has a prompt.
pub(super) struct ClassVectors {
    op: &'static str,
    classes: Vec<i64>,
    vectors: UnitRows,
}

impl ClassVectors {
    /// Errors: those of [`UnitRows::new`]. The prompts were checked before.
    pub(super) fn new(op: &'static str, prompts: &Labelled<'_>) -> Result<ClassVectors> {
        let classes = prompts.classes();
        let vectors = UnitRows::new(op, "prompts", &means(prompts, &classes))?;
        Ok(ClassVectors { op, classes, vectors })
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    /// The number of each label's class. Errors: a class without a prompt, with its row.
    pub(super) fn numbers(&self, argument: &'static str, labels: &[i64]) -> Result<Vec<usize>> {
        let number = |(row, label): (usize, &i64)| {
            self.classes.binary_search(label).map_err(|_| {
                let got = format!("class {label} of row {row}, which has none");
                Error::argument(self.op, argument, "classes that have a prompt", got)
            })
        };
        labels.iter().enumerate().map(number).collect()
    }

    /// The cosines of some rows with every class.
    pub(super) fn similarities(&self, x: &UnitRows, rows: &Range<usize>) -> Vec<Vec<f32>> {
        let mut all = vec![vec![0f32; self.len()]; rows.len()];
        let mut block = vec![0f32; rows.len() * COLS];
        for cols in pieces(self.len(), COLS) {
            x.block(rows, &self.vectors, &cols, &mut block);
            for (all, sims) in all.iter_mut().zip(block.chunks_exact(cols.len())) {
                all[cols.clone()].copy_from_slice(sims);
            }
        }
        all
    }
}

/// The mean of each class's prompts, all of length one: [`UnitRows`] normalises again.
fn means(prompts: &Labelled<'_>, classes: &[i64]) -> Features {
    let cols = prompts.features.cols;
    let mut sums = vec![0f64; classes.len() * cols];
    let mut counts = vec![0f64; classes.len()];
    for (row, label) in prompts.features.values.chunks_exact(cols).zip(prompts.labels) {
        let class = classes.partition_point(|class| class < label);
        let wide: Vec<_> = row.iter().map(|&v| f64::from(v)).collect();
        let unit = l2_normalize(&wide, cols).0;
        sums[class * cols..][..cols].iter_mut().zip(unit).for_each(|(sum, v)| *sum += v);
        counts[class] += 1.;
    }
    let of_class =
        |(sums, count): (&[f64], &f64)| sums.iter().map(|v| (v / count) as f32).collect::<Vec<_>>();
    let values = sums.chunks_exact(cols).zip(&counts).flat_map(of_class).collect();
    Features { rows: classes.len(), cols, values }
}
