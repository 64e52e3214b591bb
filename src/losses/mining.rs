//! Which rows make a triplet.

use super::Distance;
use crate::error::{Error, Result};
use crate::ops::Indices;
use crate::reference::l2_normalize;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// How a triplet's negative, and its positive where there are several, are chosen among the rows of a batch.
///
/// ```
/// use crossmodal::losses::Mining;
/// assert_ne!(Mining::BatchHard, Mining::SemiHard { margin: 0.2 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mining {
    /// For each anchor the farthest positive and the nearest negative (Hermans et al., 2017).
    BatchHard,
    /// For each anchor and positive the nearest negative that is farther than the positive, by less than the margin (Schroff
    /// et al., 2015); none, none.
    SemiHard {
        /// The margin of the loss.
        margin: f64,
    },
}

/// Row numbers of triplets: anchors of x, positives and negatives of y.
///
/// ```
/// use crossmodal::{Device, Tensor, losses::{Distance, Mining, mine}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 1], &[0f32, 5.])?;
/// let y = Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f32, 7.])?;
/// let triplets = mine(&x, &y, &[0, 1], &[0, 1], false, Distance::Euclidean, Mining::BatchHard)?;
/// assert_eq!(triplets.anchors.as_slice(), [0, 1]);
/// assert_eq!(triplets.positives.as_slice(), [0, 1]);
/// assert_eq!(triplets.negatives.as_slice(), [1, 0]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Triplets {
    /// Rows of x.
    pub anchors: Indices,
    /// Rows of y of the same class.
    pub positives: Indices,
    /// Rows of y of another class.
    pub negatives: Indices,
}

/// Mines triplets among `x [n, d]` and `y [m, d]`. A negative class is none: no anchor, no positive, but a negative. With
/// `one_set` row i of y is row i of x, and no positive of it. Ties go to the lower index.
///
/// Choosing is no function of the features: no gradient goes through it. It reads the features back, and compares them in
/// f64 on the host, a row of distances at a time. Errors: shapes, types or devices differ; labels that are not as many as
/// rows. Example: [`Triplets`].
pub fn mine(
    x: &Tensor,
    y: &Tensor,
    x_classes: &[i64],
    y_classes: &[i64],
    one_set: bool,
    distance: Distance,
    mining: Mining,
) -> Result<Triplets> {
    let ([n, d], [m, width]) = (x.shape(), y.shape()) else {
        let got = format!("shapes {:?} and {:?}", x.shape(), y.shape());
        return Err(Error::argument("mine", "x and y", "two axes each", got));
    };
    for (argument, what, expected, got) in [
        ("y", "features", *d, *width),
        ("x_classes", "elements", *n, x_classes.len()),
        ("y_classes", "elements", *m, y_classes.len()),
        ("y", "rows, as x has", if one_set { *n } else { *m }, *m),
    ] {
        if expected != got {
            return Err(Error::argument("mine", argument, format!("{expected} {what}"), got));
        }
    }
    let (d, host) = (*d, |t: &Tensor| t.to_f64_vec());
    let (mut from, mut to) = (host(x)?, host(y)?);
    if distance == Distance::Cosine {
        (from, to) = (l2_normalize(&from, d).0, l2_normalize(&to, d).0);
    }
    let row = |a: &[f64]| -> Vec<f64> {
        let pair = |b: &[f64]| -> f64 {
            let pairs = a.iter().zip(b);
            match distance {
                Distance::Cosine => 1. - pairs.map(|(a, b)| a * b).sum::<f64>(),
                // Of the square, which keeps the order.
                Distance::Euclidean | Distance::SquaredEuclidean => {
                    pairs.map(|(a, b)| (a - b) * (a - b)).sum()
                }
            }
        };
        to.chunks_exact(d.max(1)).map(pair).collect()
    };
    let limit = |own: f64, margin: f64| match distance {
        Distance::Euclidean => (own.sqrt() + margin).powi(2),
        Distance::SquaredEuclidean | Distance::Cosine => own + margin,
    };
    let of_anchor = |(anchor, a): (usize, &[f64])| -> Vec<[u32; 3]> {
        let class = x_classes[anchor];
        if class < 0 {
            return vec![];
        }
        let row = row(a);
        let positives = (0..row.len()).filter(|&j| y_classes[j] == class && !(one_set && j == anchor));
        let nearest = |beyond: f64| {
            let far = (0..row.len()).filter(|&j| y_classes[j] != class && row[j] > beyond);
            far.min_by(|&a, &b| row[a].total_cmp(&row[b]))
        };
        let triplet = |positive: usize, negative: usize| [anchor, positive, negative].map(|i| i as u32);
        match mining {
            Mining::BatchHard => {
                // The first of the farthest: the last of equals would come of max_by.
                let farthest = positives.reduce(|a, b| if row[b] > row[a] { b } else { a });
                farthest.zip(nearest(f64::NEG_INFINITY)).map(|(p, n)| triplet(p, n)).into_iter().collect()
            }
            Mining::SemiHard { margin } => {
                let of_positive = |p: usize| {
                    nearest(row[p]).filter(|&n| row[n] < limit(row[p], margin)).map(|n| triplet(p, n))
                };
                positives.filter_map(of_positive).collect()
            }
        }
    };
    let rows: Vec<_> = from.chunks_exact(d.max(1)).enumerate().collect();
    let found: Vec<[u32; 3]> = rows.into_par_iter().flat_map_iter(of_anchor).collect();
    let list = |i: usize| {
        let indices: Vec<_> = found.iter().map(|triplet| triplet[i]).collect();
        Indices::new(x.device(), &indices)
    };
    Ok(Triplets { anchors: list(0)?, positives: list(1)?, negatives: list(2)? })
}
