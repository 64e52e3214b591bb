//! What a trained fusion is given.

use super::Presence;
use super::model::Channel;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::ops::Mask;

/// Which of so many tokens are there, the first of each sample's.
pub(super) fn mask(lengths: &[u32], length: usize) -> Mask {
    let there: Vec<_> = lengths.iter().flat_map(|own| (0..length as u32).map(move |at| at < *own)).collect();
    Mask::keep(&[lengths.len(), length], &there)
}

/// Rows to tell something of.
pub(super) struct Inputs<'a> {
    pub features: &'a [Option<&'a Features>],
    pub lengths: &'a [Option<&'a [u32]>],
    pub presence: Presence,
}

impl<'a> Inputs<'a> {
    /// Refuses what does not fit the channels, or one another. A modality without features is missing.
    pub(super) fn new(
        channels: &[Channel],
        features: &'a [Option<&'a Features>],
        lengths: &'a [Option<&'a [u32]>],
        presence: &Presence,
    ) -> Result<Inputs<'a>> {
        for (argument, count) in
            [("features", features.len()), ("lengths", lengths.len()), ("presence", presence.modalities())]
        {
            if count != channels.len() {
                let expected = format!("{} modalities", channels.len());
                return Err(Error::argument("predict", argument, expected, count));
            }
        }
        let given: Vec<_> = features.iter().map(Option::is_some).collect();
        let inputs = Inputs { features, lengths, presence: presence.of_given(&given)? };
        inputs.check(channels)?;
        Ok(inputs)
    }

    fn check(&self, channels: &[Channel]) -> Result<()> {
        let refuse = |argument: String, expected: String, got: String| {
            Err(Error::argument("predict", argument, expected, got))
        };
        let rows = self.presence.rows();
        for ((channel, own), lengths) in channels.iter().zip(self.features).zip(self.lengths) {
            let Some(own) = own else { continue };
            let (width, argument) = (channel.width(), format!("modality {}", channel.name));
            let fits =
                own.cols == width || channel.is_of_tokens && own.cols > 0 && own.cols.is_multiple_of(width);
            if own.rows != rows || !fits || own.values.len() != own.rows * own.cols {
                let tokens = if channel.is_of_tokens { "tokens x " } else { "" };
                let got = format!("{} x {} of {} values", own.rows, own.cols, own.values.len());
                return refuse(argument, format!("{rows} x {tokens}{width} values"), got);
            }
            let Some(lengths) = lengths else { continue };
            if lengths.len() != rows {
                return refuse(argument, format!("{rows} lengths, one a row"), lengths.len().to_string());
            }
            let most = own.cols / width;
            if let Some(row) = lengths.iter().position(|own| *own as usize > most) {
                return refuse(
                    argument,
                    format!("lengths of at most {most}"),
                    format!("{} in row {row}", lengths[row]),
                );
            }
        }
        Ok(())
    }
}
