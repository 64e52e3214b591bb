//! The matrix product by the gemm crate.

use crate::reference::MatmulShape;
use crate::shape::count;
use rayon::prelude::*;

/// Multiplications below which threads cost more than they bring.
const THREADED_FROM: usize = 1 << 18;

/// Elements of a transposed left matrix from which a copy in rows pays: the product walks it with long strides otherwise,
/// half as fast. No copy beyond 8 MiB: memory is promised to be bounded.
const COPIED_FROM: usize = 1 << 14;
const COPIED_TO: usize = 1 << 21;

/// A matrix inside a slice: its first element and its row and column strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: &'a [f32],
    pub strides: (usize, usize),
}

impl View<'_> {
    fn holds(&self, rows: usize, cols: usize) -> bool {
        (rows - 1) * self.strides.0 + (cols - 1) * self.strides.1 < self.data.len()
    }
}

/// A matrix `[m, k]` stored by columns, copied into rows, in tiles that stay in the nearest cache.
fn transposed(a: View<'_>, m: usize, k: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let mut out = vec![0.; m * k];
    out.par_chunks_mut(TILE * k).enumerate().for_each(|(i, rows)| {
        for first in (0..k).step_by(TILE) {
            for (r, row) in rows.chunks_exact_mut(k).enumerate() {
                for (p, value) in (first..).zip(&mut row[first..k.min(first + TILE)]) {
                    *value = a.data[i * TILE + r + p * a.strides.1];
                }
            }
        }
    });
    out
}

/// `out = scale A B`, or `out += scale A B`: A `[m, k]`, B `[k, n]`, out `[m, n]` row-major.
pub(crate) fn product(
    out: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: View<'_>,
    b: View<'_>,
    scale: f32,
    accumulate: bool,
) {
    assert_eq!(out.len(), m * n, "the product's size");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            out.fill(0.);
        }
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "a matrix reaches past its slice");
    let copy;
    let a = if a.strides.0 == 1 && a.strides.1 >= m && (COPIED_FROM..=COPIED_TO).contains(&(m * k)) {
        copy = transposed(a, m, k);
        View { data: &copy, strides: (k, 1) }
    } else {
        a
    };
    let threads =
        if m * n * k < THREADED_FROM { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(0) };
    // SAFETY: the assertions above bound every element that the strides reach; `out` is exclusively borrowed and row-major.
    #[allow(unsafe_code, reason = "gemm takes raw pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.data.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1.,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

/// `scale A B + bias` for every matrix of the batch.
pub(crate) fn matmul(
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    scale: f32,
    shape: &MatmulShape,
) -> Vec<f32> {
    let MatmulShape { m, n, k, a_strides, b_strides, .. } = *shape;
    let mut out = match bias {
        Some(bias) => bias.repeat(count(&shape.batch) * m),
        None => vec![0.; count(&shape.batch) * m * n],
    };
    shape.for_each_matrix(|a_at, b_at, at| {
        let a = View { data: &a[a_at.min(a.len())..], strides: a_strides };
        let b = View { data: &b[b_at.min(b.len())..], strides: b_strides };
        product(&mut out[at..at + m * n], (m, n, k), a, b, scale, bias.is_some());
    });
    out
}
