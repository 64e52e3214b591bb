//! Elementwise functions and arithmetic by chunks, without a copy in f64 of what goes in: the same bits as the definition's, rounded
//! once.

use crate::reference::{Binary, Unary};
use crate::shape::{broadcast_strides, count, for_each_offset};
use rayon::prelude::*;

/// Elements that one task takes, at least.
const CHUNK: usize = 1 << 13;

/// `f(x)`.
pub(crate) fn unary(kind: Unary, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        out.iter_mut().zip(x).for_each(|(out, &v)| *out = kind.apply(f64::from(v)) as f32);
    });
    out
}

/// `g f'(x)`.
pub(crate) fn unary_backward(kind: Unary, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    let chunks = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(grad.par_chunks(CHUNK));
    chunks.for_each(|((out, x), grad)| {
        let both = out.iter_mut().zip(x).zip(grad);
        both.for_each(|((out, &v), &g)| *out = (f64::from(g) * kind.derivative(f64::from(v))) as f32);
    });
    out
}

/// `a op b`, both broadcast to `shape`. One operation on two numbers of f32, rounded from f64, is that of f32 itself (Figueroa, 1995).
pub(crate) fn binary(
    kind: Binary,
    a: (&[f32], &[usize]),
    b: (&[f32], &[usize]),
    shape: &[usize],
) -> Vec<f32> {
    match kind {
        Binary::Add => lines(a, b, shape, |a, b| a + b),
        Binary::Sub => lines(a, b, shape, |a, b| a - b),
        Binary::Mul => lines(a, b, shape, |a, b| a * b),
    }
}

/// Lines along the last axes, as many as both sides have or lack as one, and where they start.
fn lines(
    a: (&[f32], &[usize]),
    b: (&[f32], &[usize]),
    shape: &[usize],
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Vec<f32> {
    let mut out = vec![0f32; count(shape)];
    if out.is_empty() {
        return out;
    }
    let strides = [a.1, b.1].map(|own| broadcast_strides(own, shape));
    let inner = shape.len() - strides.iter().map(|own| run(own, shape)).min().unwrap_or(0);
    let line = count(&shape[inner..]);
    let mut starts = Vec::with_capacity(out.len() / line);
    for_each_offset(&shape[..inner], [&strides[0][..inner], &strides[1][..inner]], |at| starts.push(at));
    // Whether a side moves along a line: else it is one number there.
    let moves = strides.map(|own| shape[inner..].iter().zip(&own[inner..]).any(|(n, s)| *n > 1 && *s > 0));
    let each = CHUNK.div_ceil(line);
    let of_line = |out: &mut [f32], first: usize, [i, j]: [usize; 2]| match moves {
        [true, true] => {
            let (a, b) = (&a.0[i + first..][..out.len()], &b.0[j + first..][..out.len()]);
            out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = f(*a, *b));
        }
        [true, false] => {
            let a = &a.0[i + first..][..out.len()];
            out.iter_mut().zip(a).for_each(|(out, a)| *out = f(*a, b.0[j]));
        }
        [false, true] => {
            let b = &b.0[j + first..][..out.len()];
            out.iter_mut().zip(b).for_each(|(out, b)| *out = f(a.0[i], *b));
        }
        [false, false] => out.fill(f(a.0[i], b.0[j])),
    };
    match &starts[..] {
        [only] => {
            out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| of_line(out, chunk * CHUNK, *only))
        }
        _ => out.par_chunks_mut(each * line).zip(starts.par_chunks(each)).for_each(|(out, starts)| {
            out.chunks_mut(line).zip(starts).for_each(|(out, start)| of_line(out, 0, *start));
        }),
    }
    out
}

/// How many of the last axes are one run of memory, or of one number.
fn run(strides: &[usize], shape: &[usize]) -> usize {
    let axes = || shape.iter().zip(strides).rev();
    let mut next = 1;
    let whole = axes().take_while(|&(&n, &stride)| {
        let follows = n == 1 || stride == next;
        next *= n;
        follows
    });
    let whole = whole.count();
    let still = axes().take_while(|&(&n, &stride)| n == 1 || stride == 0).count();
    whole.max(still)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn every_broadcast_is_the_definitions() {
        let values =
            |count: usize, shift: f32| (0..count).map(|i| (i as f32 + shift).sin()).collect::<Vec<_>>();
        let shapes: [&[usize]; 9] =
            [&[3, 4, 5], &[1, 4, 5], &[4, 5], &[5], &[1], &[3, 4, 1], &[3, 1, 1], &[3, 1, 5], &[1, 4, 1]];
        for a_shape in shapes {
            for b_shape in shapes {
                let Ok(shape) = crate::shape::broadcast("binary", a_shape, b_shape) else {
                    panic!("they fit")
                };
                let (a, b) = (values(count(a_shape), 0.5), values(count(b_shape), 7.));
                let wide = |own: &[f32]| own.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
                for kind in [Binary::Add, Binary::Sub, Binary::Mul] {
                    let want = reference::binary(kind, (&wide(&a), a_shape), (&wide(&b), b_shape), &shape);
                    let want: Vec<f32> = want.iter().map(|v| *v as f32).collect();
                    let got = binary(kind, (&a, a_shape), (&b, b_shape), &shape);
                    assert_eq!(got, want, "{a_shape:?} {kind:?} {b_shape:?}");
                }
            }
        }
    }

    #[test]
    fn chunks_and_nothing_are_no_matter() {
        let x: Vec<f32> = (0..2 * CHUNK + 3).map(|i| (i as f32 * 0.01).sin()).collect();
        let of = |v: &f32| Unary::Gelu.apply(f64::from(*v)) as f32;
        assert_eq!(unary(Unary::Gelu, &x), x.iter().map(of).collect::<Vec<_>>());
        let of = |v: &f32| (f64::from(*v) * Unary::Gelu.derivative(f64::from(*v))) as f32;
        assert_eq!(unary_backward(Unary::Gelu, &x, &x), x.iter().map(of).collect::<Vec<_>>());
        let len = x.len();
        assert_eq!(
            binary(Binary::Add, (&x, &[len]), (&x, &[len]), &[len]),
            x.iter().map(|v| v + v).collect::<Vec<_>>()
        );
        assert!(binary(Binary::Add, (&[], &[0, 3]), (&[1.], &[1]), &[0, 3]).is_empty());
        assert_eq!(binary(Binary::Mul, (&[2.], &[]), (&[3.], &[]), &[]), [6.]);
    }
}
