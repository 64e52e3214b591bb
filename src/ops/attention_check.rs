//! What attention refuses.

use super::{check_floats, check_shape};
use crate::error::{Error, Result};
use crate::reference::{Attention, AttentionLayout, AttentionOptions, AttentionWeights, Mask, Sequences};
use crate::shape::count;
use crate::tensor::{Tensor, check as check_size};

/// The widest head.
const WIDEST: usize = 256;

fn refuse<T>(
    argument: &'static str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> Result<T> {
    Err(Error::argument("attention", argument, expected, got))
}

/// (batch, heads, rows, width) of a tensor.
fn sizes(argument: &'static str, x: &Tensor, packed_heads: Option<usize>) -> Result<[usize; 4]> {
    match (packed_heads, x.shape()) {
        (None, &[batch, heads, rows, width]) => Ok([batch, heads, rows, width]),
        (None, shape) => {
            refuse(argument, "four axes: batch, heads, length, width", format!("shape {shape:?}"))
        }
        (Some(heads), &[batch, rows, width]) if heads > 0 && width.is_multiple_of(heads) => {
            Ok([batch, heads, rows, width / heads])
        }
        (Some(heads), shape) => {
            let expected = format!("three axes: batch, length, {heads} heads side by side");
            refuse(argument, expected, format!("shape {shape:?}"))
        }
    }
}

/// The problem, if it is one.
pub(super) fn check(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Attention> {
    let named = [("q", q), ("k", k), ("v", v)].into_iter().chain(bias.map(|bias| ("bias", bias)));
    check_floats("attention", &named.collect::<Vec<_>>())?;
    let (of_q, of_kv) = match options.layout {
        AttentionLayout::Heads => (None, None),
        AttentionLayout::Packed { heads, kv_heads } => (Some(heads), Some(kv_heads)),
    };
    let [batch, heads, queries, dh] = sizes("q", q, of_q)?;
    let [_, kv_heads, keys, _] = sizes("k", k, of_kv)?;
    let [_, _, _, dv] = sizes("v", v, of_kv)?;
    let shape = |heads: usize, rows: usize, width: usize| match options.layout {
        AttentionLayout::Heads => vec![batch, heads, rows, width],
        AttentionLayout::Packed { .. } => vec![batch, rows, heads * width],
    };
    check_shape("attention", "k", k, &shape(kv_heads, keys, dh))?;
    check_shape("attention", "v", v, &shape(kv_heads, keys, dv))?;
    if kv_heads == 0 || heads % kv_heads != 0 || heads == 0 {
        let expected = format!("a multiple of the {kv_heads} heads of k");
        return refuse("q", expected, format!("{heads} heads"));
    }
    for (argument, width) in [("q", dh), ("v", dv)] {
        if !(1..=WIDEST).contains(&width) {
            return refuse(argument, format!("a width of 1 to {WIDEST} for each head"), width);
        }
    }
    let problem = Attention {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        dh,
        dv,
        bias: bias.map(|bias| check_bias(bias, [batch, heads, queries, keys])).transpose()?,
        options: options.clone(),
    };
    check_numbers(&problem)?;
    check_masks(&problem)?;
    if let Some(sequences) = &options.sequences {
        check_sequences(sequences, queries, keys)?;
    }
    check_rows(&problem)?;
    if let Some(shape) = problem.weights_shape() {
        check_size("attention", q.device(), &shape, q.dtype())?;
    }
    check_size("attention", q.device(), &shape(heads, queries, dv), q.dtype())?;
    Ok(problem)
}

fn check_bias(bias: &Tensor, whole: [usize; 4]) -> Result<[usize; 4]> {
    let fits = |(own, whole): (&usize, usize)| *own == 1 || *own == whole;
    match <[usize; 4]>::try_from(bias.shape()) {
        Ok(shape) if shape.iter().zip(whole).all(fits) => Ok(shape),
        _ => refuse("bias", format!("{whole:?}, or 1 for any of them"), format!("{:?}", bias.shape())),
    }
}

fn check_numbers(problem: &Attention) -> Result<()> {
    let options = &problem.options;
    if let Some(scale) = options.scale.filter(|scale| !scale.is_finite()) {
        return refuse("scale", "a finite number", scale);
    }
    if let Some(cap) = options.softcap.filter(|cap| !(cap.is_finite() && *cap > 0.)) {
        return refuse("softcap", "a number above 0", format!("{cap:?}"));
    }
    if let Some(dropout) = options.dropout.filter(|dropout| !(0. ..1.).contains(&dropout.p)) {
        return refuse("dropout", "p of 0 to less than 1", format!("{:?}", dropout.p));
    }
    if let Some(alibi) = &options.alibi {
        if alibi.slopes.len() != problem.heads {
            return refuse(
                "alibi",
                format!("{} slopes, one for each head", problem.heads),
                alibi.slopes.len(),
            );
        }
        if let Some(slope) = alibi.slopes.iter().find(|slope| !slope.is_finite()) {
            return refuse("alibi", "finite slopes", slope);
        }
    }
    Ok(())
}

fn check_masks(problem: &Attention) -> Result<()> {
    let Attention { batch, heads, queries, keys, options, .. } = problem;
    let elements = |argument, mask: &Mask| match (count(&mask.shape), mask.values.len()) {
        (expected, got) if expected != got => {
            refuse(argument, format!("{expected} elements for its shape"), got)
        }
        (_, got) if u32::try_from(got).is_err() => refuse(argument, "fewer than 2^32 elements", got),
        _ => Ok(()),
    };
    if let Some(mask) = &options.key_mask {
        if mask.shape != [*batch, *keys] {
            return refuse("key_mask", format!("shape {:?}", [batch, keys]), format!("{:?}", mask.shape));
        }
        elements("key_mask", mask)?;
    }
    if let Some(mask) = &options.pair_mask {
        let fits = match mask.shape[..] {
            [b, h, i, j] => (b == *batch || b == 1) && (h == *heads || h == 1) && i == *queries && j == *keys,
            _ => false,
        };
        if !fits {
            let expected = format!("shape [{batch} or 1, {heads} or 1, {queries}, {keys}]");
            return refuse("pair_mask", expected, format!("{:?}", mask.shape));
        }
        elements("pair_mask", mask)?;
    }
    Ok(())
}

fn check_sequences(sequences: &Sequences, queries: usize, keys: usize) -> Result<()> {
    let sides =
        [("sequences.queries", &sequences.queries, queries), ("sequences.keys", &sequences.keys, keys)];
    for (argument, begins, whole) in sides {
        let whole_range = begins.first() == Some(&0) && begins.last() == Some(&whole);
        if !whole_range || !begins.is_sorted() {
            let expected = format!("cumulative lengths from 0 to {whole}");
            return refuse(argument, expected, format!("{begins:?}"));
        }
    }
    let (of_queries, of_keys) = (sequences.queries.len(), sequences.keys.len());
    if of_queries != of_keys {
        return refuse("sequences.keys", format!("{of_queries} places as for the queries"), of_keys);
    }
    Ok(())
}

fn check_rows(problem: &Attention) -> Result<()> {
    let Some(rows) = &problem.options.rows else { return Ok(()) };
    if problem.options.weights == AttentionWeights::None {
        return refuse("rows", "weights to be returned: rows choose among them", "none");
    }
    let mut seen = vec![false; problem.queries];
    for &row in rows.iter() {
        match seen.get_mut(row) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return refuse("rows", "each query once", format!("{row} twice")),
            None => return refuse("rows", format!("query numbers below {}", problem.queries), row),
        }
    }
    Ok(())
}
