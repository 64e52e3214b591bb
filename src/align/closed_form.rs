//! Heads without training: linear maps that a formula gives, their one number chosen on the validation rows.

use super::data::Data;
use super::heads::{Head, Heads};
use super::network::HeadWeights;
use super::recipe::Scaling;
use super::retrieval::{Retrieval, retrieval};
use super::standardise::Standardisation;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatRef, Par, Side};

/// Which formula. X and Y are the scaled training rows, n of them; `S_xx = XᵀX/n` and so on.
///
/// ```
/// use crossmodal::align::ClosedForm;
/// assert_eq!("cca".parse(), Ok(ClosedForm::Cca));
/// assert_eq!(ClosedForm::Ridge.to_string(), "ridge");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedForm {
    /// Left features into the right space by ridge regression: `W = (S_xx + λI)⁻¹ S_xy`; the right features stay as they are.
    Ridge,
    /// The rotations that bring both closest (Schönemann, 1966): the singular vectors of `S_xy`.
    Procrustes,
    /// Canonical correlation analysis (Hotelling, 1936) with `λI` added to both covariances, each pair of directions weighted
    /// by its correlation to the power ¾.
    Cca,
}

impl std::fmt::Display for ClosedForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClosedForm::Ridge => "ridge",
            ClosedForm::Procrustes => "procrustes",
            ClosedForm::Cca => "cca",
        })
    }
}

impl std::str::FromStr for ClosedForm {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "ridge" => Ok(ClosedForm::Ridge),
            "procrustes" => Ok(ClosedForm::Procrustes),
            "cca" => Ok(ClosedForm::Cca),
            _ => Err(format!("expected ridge, procrustes or cca, got {text}")),
        }
    }
}

/// What [`closed_form`] found.
/// Example: [`closed_form`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedFit {
    /// The heads; their epoch is 0.
    pub heads: Heads,
    /// Every λ that was tried, from strong to weak, with its scores on the validation rows; one of 0 for a formula without.
    pub tried: Vec<(f64, Retrieval)>,
    /// The λ of the heads: the best mean recall at 10, of equals the strongest.
    pub strength: f64,
}

/// How strongly correlated directions count.
const POWER: f64 = 0.75;
/// Rows that are widened to f64 at once.
const ROWS: usize = 4096;

/// Fits heads by a formula, in f64, on the host: the same bits whatever device or threads there are. `dim` is the width of the
/// shared space at most: no more than the narrower modality has directions in which the training rows vary, and for ridge always the
/// right one's width.
///
/// Errors: no dimensions; features that the scaling makes infinite; a matrix that is not positive definite.
///
/// ```
/// use crossmodal::{align::{ClosedForm, Data, Scaling, Split, closed_form}, io::Features};
/// let view = |f: fn(f32) -> f32| Features { rows: 40, cols: 3, values: (0..120).map(|i| f(i as f32)).collect() };
/// let data = Data::new(view(|i| (i * 0.7).sin()), view(|i| -(i * 0.7).sin()), Split::random(40, 0)?)?;
/// let fit = closed_form(&data, ClosedForm::Cca, Scaling::Modality, 3)?;
/// let best = fit.tried.iter().find(|(strength, _)| *strength == fit.strength).unwrap().1;
/// assert_eq!(best.left_to_right.recall_at_1, 100.); // one side is the other turned round
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn closed_form(data: &Data, kind: ClosedForm, scaling: Scaling, dim: usize) -> Result<ClosedFit> {
    if dim == 0 {
        return Err(Error::argument("align", "dim", "at least 1", 0));
    }
    let scale = |side: &Features| match scaling {
        Scaling::Feature => Standardisation::fit(side, &data.split.train),
        Scaling::Modality => Standardisation::fit_modality(side, &data.split.train),
    };
    let scales = [scale(&data.left), scale(&data.right)];
    let moments = Moments::of(data, &scales)?;
    let validation = [data.left.select(&data.split.validation)?, data.right.select(&data.split.validation)?];
    let mut tried = vec![];
    let mut best: Option<(f64, f64, Heads)> = None;
    for strength in strengths(kind) {
        let maps = moments.maps(kind, strength, dim)?;
        let heads = heads(data, &scales, maps);
        let project = |head: &Head, side: &Features| head.project(&Device::Cpu, side);
        let scores =
            retrieval(&project(&heads.left, &validation[0])?, &project(&heads.right, &validation[1])?)?;
        let score = scores.mean_recall_at_10();
        if best.as_ref().is_none_or(|(best, ..)| score > *best) {
            best = Some((score, strength, heads));
        }
        tried.push((strength, scores));
    }
    let (_, strength, heads) = best.expect("at least one was tried");
    Ok(ClosedFit { heads, tried, strength })
}

/// The λ to be tried, from strong to weak, in units of the mean variance where features are scaled to that.
fn strengths(kind: ClosedForm) -> Vec<f64> {
    match kind {
        ClosedForm::Procrustes => vec![0.],
        // Half decades, then halves.
        ClosedForm::Ridge => (-6..=6).rev().map(|e| 10f64.powf(0.5 * f64::from(e))).collect(),
        ClosedForm::Cca => (-7..=3).rev().map(|e| 2f64.powi(e)).collect(),
    }
}

/// Covariances of the scaled training rows.
struct Moments {
    xx: Mat<f64>,
    yy: Mat<f64>,
    xy: Mat<f64>,
}

/// Left and right map of scaled features; none where they stay as they are.
type Maps = (Mat<f64>, Option<Mat<f64>>);

impl Moments {
    fn of(data: &Data, scales: &[Standardisation; 2]) -> Result<Moments> {
        let (d, e) = (data.left.cols, data.right.cols);
        let mut moments = Moments { xx: Mat::zeros(d, d), yy: Mat::zeros(e, e), xy: Mat::zeros(d, e) };
        let weight = 1. / data.split.train.len() as f64;
        for rows in data.split.train.chunks(ROWS) {
            let scaled = |side: &Features, scale: &Standardisation, argument| -> Result<Mat<f64>> {
                let values = scale.apply(&side.select(rows)?.values);
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    let expected = "features that stay finite when scaled on the training rows";
                    let got = format!("row {}, column {}", rows[at / side.cols], at % side.cols);
                    return Err(Error::argument("align", argument, expected, got));
                }
                Ok(Mat::from_fn(rows.len(), side.cols, |i, j| f64::from(values[i * side.cols + j])))
            };
            let x = scaled(&data.left, &scales[0], "left")?;
            let y = scaled(&data.right, &scales[1], "right")?;
            for (sum, a, b) in
                [(&mut moments.xx, &x, &x), (&mut moments.yy, &y, &y), (&mut moments.xy, &x, &y)]
            {
                matmul(sum.as_mut(), Accum::Add, a.transpose(), b.as_ref(), weight, Par::Seq);
            }
        }
        Ok(moments)
    }

    fn maps(&self, kind: ClosedForm, strength: f64, dim: usize) -> Result<Maps> {
        match kind {
            ClosedForm::Ridge => {
                let root = cholesky(&self.xx, strength)?;
                let mut map = self.xy.clone();
                solve_lower_triangular_in_place(root.as_ref(), map.as_mut(), Par::Seq);
                solve_upper_triangular_in_place(root.transpose(), map.as_mut(), Par::Seq);
                Ok((map, None))
            }
            ClosedForm::Procrustes => {
                let (u, _, v) = singular(&self.xy, dim)?;
                Ok((u, Some(v)))
            }
            ClosedForm::Cca => {
                let (of_x, of_y) = (cholesky(&self.xx, strength)?, cholesky(&self.yy, strength)?);
                // Lx⁻¹ S_xy Ly⁻ᵀ
                let mut whitened = self.xy.clone();
                solve_lower_triangular_in_place(of_x.as_ref(), whitened.as_mut(), Par::Seq);
                solve_lower_triangular_in_place(of_y.as_ref(), whitened.as_mut().transpose_mut(), Par::Seq);
                let (mut u, s, mut v) = singular(&whitened, dim)?;
                for (root, map) in [(&of_x, &mut u), (&of_y, &mut v)] {
                    solve_upper_triangular_in_place(root.transpose(), map.as_mut(), Par::Seq);
                    scale_columns(map, &s.iter().map(|s| s.powf(POWER)).collect::<Vec<_>>());
                }
                Ok((u, Some(v)))
            }
        }
    }
}

fn scale_columns(map: &mut Mat<f64>, factors: &[f64]) {
    for (j, factor) in factors.iter().enumerate() {
        for i in 0..map.nrows() {
            map[(i, j)] *= factor;
        }
    }
}

/// The lower root of a covariance with `λI` added.
fn cholesky(covariance: &Mat<f64>, strength: f64) -> Result<Mat<f64>> {
    let mut shifted = covariance.clone();
    (0..shifted.nrows()).for_each(|i| shifted[(i, i)] += strength);
    let expected = "features whose covariance has a Cholesky factorisation";
    let root = shifted.llt(Side::Lower).map_err(|error| {
        Error::argument("align", "features", expected, format!("{error:?} with λ = {strength}"))
    })?;
    Ok(root.L().to_owned())
}

/// The first singular vectors, by the smaller Gram matrix, each with its largest element positive; and their values.
fn singular(matrix: &Mat<f64>, dim: usize) -> Result<(Mat<f64>, Vec<f64>, Mat<f64>)> {
    let tall = matrix.nrows() >= matrix.ncols();
    let own: MatRef<'_, f64> = if tall { matrix.as_ref() } else { matrix.transpose() };
    let size = own.ncols();
    let mut gram = Mat::zeros(size, size);
    matmul(gram.as_mut(), Accum::Replace, own.transpose(), own, 1., Par::Seq);
    let eigen = gram.self_adjoint_eigen(Side::Lower);
    let eigen = eigen.map_err(|error| {
        Error::argument("align", "features", "a covariance with eigenvectors", format!("{error:?}"))
    })?;
    // From the largest on: they come in ascending order. What is left of directions in which nothing varies is rounding: the
    // Gram matrix holds values down to 1e-8 of the largest.
    let value = |j: usize| eigen.S().column_vector()[size - 1 - j].max(0.).sqrt();
    let count = (0..dim.min(size)).take_while(|&j| value(j) > 1e-7 * value(0)).count().max(1);
    let vectors = Mat::from_fn(size, count, |i, j| eigen.U()[(i, size - 1 - j)]);
    let signs: Vec<f64> = (0..count)
        .map(|j| {
            let largest =
                (0..size).map(|i| vectors[(i, j)]).fold(0f64, |a, b| if b.abs() > a.abs() { b } else { a });
            if largest < 0. { -1. } else { 1. }
        })
        .collect();
    let mut narrow = vectors;
    scale_columns(&mut narrow, &signs);
    let values: Vec<f64> = (0..count).map(value).collect();
    let mut wide = Mat::zeros(own.nrows(), count);
    matmul(wide.as_mut(), Accum::Replace, own, narrow.as_ref(), 1., Par::Seq);
    scale_columns(&mut wide, &values.iter().map(|s| 1. / s.max(1e-12)).collect::<Vec<_>>());
    Ok(if tall { (wide, values, narrow) } else { (narrow, values, wide) })
}

fn heads(data: &Data, scales: &[Standardisation; 2], (left, right): Maps) -> Heads {
    let dim = left.ncols();
    let head = |name: &str, inputs: usize, scale: &Standardisation, map: Option<&Mat<f64>>| {
        let layer = |map: &Mat<f64>| {
            // Of one size whatever λ is: lengths do not matter, and f32 holds them best around 1.
            let length = (0..inputs * dim).map(|at| map[(at / dim, at % dim)].powi(2)).sum::<f64>().sqrt();
            let factor = (dim as f64).sqrt() / length.max(f64::MIN_POSITIVE);
            let weight = (0..inputs * dim).map(|at| (factor * map[(at / dim, at % dim)]) as f32).collect();
            HeadWeights { weight, bias: vec![0.; dim] }
        };
        let (standardisation, layers) = (scale.clone(), map.map(layer).into_iter().collect());
        Head { name: name.into(), inputs, dim, standardisation, layers, residual: None }
    };
    Heads {
        left: head("left", data.left.cols, &scales[0], Some(&left)),
        right: head("right", data.right.cols, &scales[1], right.as_ref()),
        log_scale: (1f64 / 0.07).ln(),
        epoch: 0,
    }
}
