//! What the tokens of one modality look at in another, in a trained fusion.

use super::Presence;
use super::model::FusionModel;
use super::model_inputs::Inputs;
use crate::error::{Error, Result};
use crate::io::Features;

/// What tokens look at. Example: [`TokenFuser::attention`](super::TokenFuser::attention).
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMaps {
    /// Samples.
    pub rows: usize,
    /// Heads.
    pub heads: usize,
    /// Tokens that look.
    pub query_length: usize,
    /// Tokens that are looked at.
    pub key_length: usize,
    /// Probabilities `[rows, heads, query_length, key_length]`.
    pub values: Vec<f32>,
}

impl FusionModel {
    /// What the tokens of one modality look at in another, by their names: see [`TokenFuser::attention`](super::TokenFuser::attention). 0
    /// for a token that is not there.
    ///
    /// Waits for the device. Errors: a fusion without such attention; modalities that it does not know, or that are not given; those of
    /// [`FusionModel::predict_tokens`].
    pub fn attention(
        &self,
        features: &[Option<&Features>],
        lengths: &[Option<&[u32]>],
        presence: &Presence,
        [query, key]: [&str; 2],
    ) -> Result<AttentionMaps> {
        let inputs = Inputs::new(&self.channels, features, lengths, presence)?;
        let place = |argument: &'static str, name: &str| {
            let names: Vec<_> = self.channels.iter().map(|own| own.name.as_str()).collect();
            let at = names.iter().position(|own| *own == name).filter(|&at| features[at].is_some());
            let expected = || format!("one of {} that is given", names.join(", "));
            at.ok_or_else(|| Error::argument("attention maps", argument, expected(), name))
        };
        let (q, k) = (place("query", query)?, place("key", key)?);
        let Some(fuser) = self.fuser.of_tokens() else {
            return Err(Error::argument("attention maps", "fusion", "a fusion of tokens", self.kind));
        };
        let count = |m: usize| features[m].map_or(0, |own| own.cols / self.channels[m].width());
        let (query_length, key_length) = (count(q), count(k));
        let (rows, mut heads, mut values) = (presence.rows(), 0, vec![]);
        let all: Vec<u32> = (0..rows as u32).collect();
        for some in all.chunks(self.rows_at_once(features, true)) {
            let seen = self
                .with_rows(&inputs, some, |tape, bound, batch| fuser.attention(tape, bound, batch, [q, k]))?;
            heads = seen.value().shape()[1];
            let mut own: Vec<f32> = seen.value().to_vec()?;
            for (i, line) in own.chunks_exact_mut(key_length).enumerate() {
                let (row, token) = (some[i / (heads * query_length)] as usize, i % query_length);
                let length = lengths[q].map_or(query_length, |own| own[row] as usize);
                if token >= length || !presence.is_there(q, row) {
                    line.fill(0.);
                }
            }
            values.extend(own);
        }
        Ok(AttentionMaps { rows, heads, query_length, key_length, values })
    }
}
