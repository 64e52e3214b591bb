//! One modality while training.

use super::data::Modality;
use super::heads::{Head, rows_at_once};
use super::network::{HeadWeights, Network};
use super::recipe::Scaling;
use super::standardise::Standardisation;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::{Bound, Parameters};
use crate::ops::concat::CONCAT;
use crate::ops::{self, Dropout, Indices, gather};
use crate::tensor::Tensor;

/// One modality while training.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) standardisation: Standardisation,
    /// All standardised rows of each view: on the device where they fit, else on the host, from where each batch is uploaded.
    pub(super) views: Vec<Tensor>,
    pub(super) network: Network,
}

/// The features of all views one behind the other: they share one standardisation.
pub(super) fn standardisation(modality: &Modality, rows: &[u32], scaling: Scaling) -> Standardisation {
    let fit = match scaling {
        Scaling::Feature => Standardisation::fit,
        Scaling::Modality => Standardisation::fit_modality,
    };
    if modality.views.is_empty() {
        return fit(&modality.features, rows);
    }
    let (each, cols) = (modality.features.rows, modality.features.cols);
    let values = modality.all().flat_map(|view| view.values.iter().copied()).collect();
    let all = Features { rows: (1 + modality.views.len()) * each, cols, values };
    let shifted =
        (0..=modality.views.len()).flat_map(|view| rows.iter().map(move |row| row + (view * each) as u32));
    fit(&all, &shifted.collect::<Vec<_>>())
}

impl Side {
    pub(super) fn new(
        device: &Device,
        modality: &Modality,
        train: &[u32],
        parameters: &mut Parameters,
        scaling: Scaling,
        (weights, residual): (Vec<HeadWeights>, Option<f64>),
    ) -> Result<Side> {
        let standardisation = standardisation(modality, train, scaling);
        let on_device = |features: &Features| -> Result<Tensor> {
            let standardised = standardisation.apply(&features.values);
            if let Some(at) = standardised.iter().position(|v| !v.is_finite()) {
                let (row, column) = (at / features.cols, at % features.cols);
                let expected = "features that stay finite when standardised on the training rows";
                let got = format!("{:?} in row {row}, column {column}", features.values[at]);
                return Err(Error::argument("align", modality.argument(), expected, got));
            }
            let host = Tensor::from_vec(&Device::Cpu, &[features.rows, features.cols], standardised)?;
            // Picking rows from a table that is split takes a command a row: a batch is then rather uploaded.
            let split = matches!(device, Device::Gpu(gpu) if 4 * host.len() as u64 > gpu.piece_bytes());
            match host.to_device(if split { &Device::Cpu } else { device }) {
                // A batch at a time goes through; all rows at once do not.
                Err(Error::OutOfMemory { .. }) => Ok(host),
                other => other,
            }
        };
        let views = modality.all().map(on_device).collect::<Result<_>>()?;
        let (name, inputs) = (&modality.name, modality.features.cols);
        let network = Network::new(device, parameters, name, inputs, weights, residual)?;
        Ok(Side { name: name.clone(), standardisation, views, network })
    }

    /// Embeddings of the given rows of every view, one view behind the other. `dropout.first` is the number of the first row.
    pub(super) fn embed(
        &self,
        device: &Device,
        tape: &Tape,
        bound: &Bound,
        rows: &[u32],
        unit: bool,
        dropout: Option<Dropout>,
    ) -> Result<Var> {
        let view = |(i, view): (usize, &Tensor)| {
            let indices = Indices::new(view.device(), rows)?;
            let mut x = gather(view, &indices)?.to_device(device)?;
            if let Some(own) = dropout.filter(|_| !self.network.is_fixed()) {
                let first = own.first.wrapping_mul(view.shape()[1] as u32);
                x = ops::dropout(&x, &Dropout { seed: own.seed ^ ((i as u64) << 56), first, ..own })?;
            }
            let x = tape.constant(&x);
            self.network.forward(tape, bound, &x, unit)
        };
        let mut all = self.views.iter().enumerate().map(view).collect::<Result<Vec<_>>>()?;
        if all.len() == 1 {
            Ok(all.remove(0))
        } else {
            tape.apply(&CONCAT, 0, &all.iter().collect::<Vec<_>>())
        }
    }

    /// Embeddings, of length one, of the given rows of the first view, on the host.
    pub(super) fn project(
        &self,
        device: &Device,
        parameters: &Parameters,
        rows: &[u32],
        dim: usize,
    ) -> Result<Features> {
        let (tape, view) = (Tape::no_grad(), &self.views[0]);
        let (bound, mut values) = (parameters.on(&tape), vec![]);
        for rows in rows.chunks(rows_at_once(view.shape()[1], dim)) {
            let x = gather(view, &Indices::new(view.device(), rows)?)?.to_device(device)?;
            let z = self.network.forward(&tape, &bound, &tape.constant(&x), true)?;
            values.extend(z.value().to_vec::<f32>()?);
        }
        Ok(Features { rows: rows.len(), cols: dim, values })
    }

    pub(super) fn head(&self, parameters: &Parameters, dim: usize) -> Result<Head> {
        Ok(Head {
            name: self.name.clone(),
            source: String::new(),
            inputs: self.views[0].shape()[1],
            dim,
            standardisation: self.standardisation.clone(),
            layers: self.network.weights(parameters)?,
            residual: self.network.residual,
            cache: None,
        })
    }
}
