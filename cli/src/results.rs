//! What a run of `align` leaves behind, however its heads came about.

use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::align::{Data, Heads, pairs, retrieval};
use crossmodal::io::{Features, write_atomically, write_npy};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::folder::{HEADS, METRICS, Output, embeddings};
use crate::inputs::Inputs;
use crate::scores::PairScores;
use crate::{metrics, output};

/// The test rows of every modality, in the shared space.
pub(crate) struct Results {
    heads: Heads,
    projected: Vec<Features>,
}

impl Results {
    pub(crate) fn new(
        mut heads: Heads,
        data: &Data,
        inputs: &Inputs,
        device: &Device,
    ) -> Result<Self, Failure> {
        for (head, input) in heads.heads.iter_mut().zip(&inputs.modalities) {
            head.source = input.sources[0].to_string();
        }
        let project = |(head, modality): (&crossmodal::align::Head, &crossmodal::align::Modality)| {
            head.project(device, &modality.features.select(&data.split.test)?)
        };
        let projected = heads.heads.iter().zip(&data.modalities).map(project).collect::<Result<_, _>>()?;
        Ok(Results { heads, projected })
    }

    /// How well each pair of modalities finds each other.
    pub(crate) fn scores(&self) -> Result<Vec<PairScores>, Failure> {
        let of_pair = |(i, j): (usize, usize)| {
            let name = |side: usize| self.heads.heads[side].name.clone();
            let scores = retrieval(&self.projected[i], &self.projected[j])?;
            Ok(PairScores { names: (name(i), name(j)), scores })
        };
        pairs(self.projected.len()).map(of_pair).collect()
    }

    /// Writes everything, the metrics last, and shows them.
    pub(crate) fn finish(&self, output: &Output, metrics: &Value) -> Outcome {
        self.heads.save(&output.file(HEADS))?;
        for (head, rows) in self.heads.heads.iter().zip(&self.projected) {
            write_npy(&output.file(&embeddings(&head.name)), rows.rows, rows.cols, &rows.values)?;
        }
        write_atomically(&output.file(METRICS), format!("{metrics:#}\n").as_bytes())?;
        output.publish()?;
        let summary = metrics::summary(metrics, &output.folder);
        output::print(&summary.ok_or_else(|| Failure::new("the scores are not finite numbers"))?)?;
        Ok(ExitCode::SUCCESS)
    }
}
