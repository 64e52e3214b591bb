//! Multi-head attention as a layer.

use super::tokens::{check_mask, check_tokens, keep_tokens};
use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::attention::ATTENTION;
use crate::ops::matmul::MATMUL;
use crate::ops::{AttentionLayout, AttentionOptions, MatmulOptions};
use crate::tensor::Tensor;
use rand::{Rng, RngExt};

/// The widths and heads of a [`MultiHeadAttention`].
///
/// ```
/// use crossmodal::nn::MultiHeadSizes;
/// let text_over_image = MultiHeadSizes { key: 768, value: 768, ..MultiHeadSizes::new(512, 8) };
/// assert_eq!((text_over_image.query, text_over_image.kv_heads, text_over_image.bias), (512, 8, true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiHeadSizes {
    /// The width of the queries' tokens and of the result.
    pub query: usize,
    /// The width of the keys' tokens.
    pub key: usize,
    /// The width of the values' tokens.
    pub value: usize,
    /// Heads, each of `query / heads` features.
    pub heads: usize,
    /// Heads of keys and values, of which `heads` is a multiple: fewer are shared (grouped queries, Ainslie et al., 2023).
    pub kv_heads: usize,
    /// Whether the projections have biases.
    pub bias: bool,
}

impl MultiHeadSizes {
    /// All tokens of one width, as many heads of keys and values, biases: self-attention. Example: [`MultiHeadSizes`].
    pub fn new(width: usize, heads: usize) -> MultiHeadSizes {
        MultiHeadSizes { query: width, key: width, value: width, heads, kv_heads: heads, bias: true }
    }

    /// (inputs, outputs) of each projection. Errors: a head that is no head.
    fn projections(&self) -> Result<[(&'static str, usize, usize); 4]> {
        let MultiHeadSizes { query, key, value, heads, kv_heads, .. } = *self;
        let refuse = |argument: &'static str, expected: &str, got: String| {
            Err(Error::argument("MultiHeadAttention", argument, expected, got))
        };
        if [query, key, value].contains(&0) {
            let got = format!("query {query}, key {key}, value {value}");
            return refuse("sizes", "widths of at least one feature", got);
        }
        if heads == 0 || query % heads != 0 || query / heads > 256 {
            let expected = "a divisor of the query width, by heads of 256 features at most";
            return refuse("heads", expected, format!("{heads} for a width of {query}"));
        }
        if kv_heads == 0 || heads % kv_heads != 0 {
            return refuse("kv_heads", "a divisor of the number of heads", format!("{kv_heads} for {heads}"));
        }
        let shared = query / heads * kv_heads;
        let all = [
            ("query", query, query),
            ("key", key, shared),
            ("value", value, shared),
            ("output", query, query),
        ];
        let too_large = |&(_, inputs, outputs): &(_, usize, usize)| {
            inputs.checked_mul(outputs).is_none_or(|n| u32::try_from(n).is_err())
        };
        match all.iter().find(|own| too_large(own)) {
            None => Ok(all),
            Some((name, inputs, outputs)) => {
                refuse("sizes", "fewer than 2^32 weights", format!("{inputs} x {outputs} of the {name}"))
            }
        }
    }
}

/// What [`MultiHeadAttention::forward`] gives. Example: [`MultiHeadAttention`].
#[derive(Debug, Clone)]
pub struct MultiHeadAttended {
    /// `[batch, queries, query width]`.
    pub out: Var,
    /// The probabilities before dropout, if they are asked for: `[batch, heads, rows, keys]`, or `[batch, rows, keys]` averaged. They
    /// have a gradient.
    pub weights: Option<Var>,
}

/// Multi-head attention (Vaswani et al., 2017): `y = [O_1; …; O_H] W_o + b_o` with
/// `O_h = softmax(Q_h K_hᵀ / √dh) V_h`, `Q = x_q W_q + b_q`, `K = x_k W_k + b_k`, `V = x_v W_v + b_v`, head h being columns
/// `h dh` to `(h + 1) dh` of each and `dh = query width / heads`. Self-attention where the three `x` are the same tokens, cross-attention
/// where keys and values are another's.
///
/// The projections lie as [`attention`](crate::ops::attention()) reads them, heads side by side: nothing is copied between them.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::nn::{MultiHeadAttention, MultiHeadSizes, Parameters, generator};
/// use crossmodal::ops::{AttentionOptions, AttentionWeights, Mask};
/// use crossmodal::{Device, Tensor};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let sizes = MultiHeadSizes { key: 3, value: 3, ..MultiHeadSizes::new(4, 2) };
/// let attention = MultiHeadAttention::new(&cpu, &mut parameters, "text_to_image", sizes, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 4], &[0.5f32; 8])?);
/// let patches = [1f32, 2., 3., f32::NAN, 0., 0.]; // the second is masked: what is in it leaves no trace
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 3], &patches)?);
/// let options = AttentionOptions {
///     key_mask: Some(Mask::keep(&[1, 2], &[true, false])),
///     weights: AttentionWeights::Averaged,
///     ..Default::default()
/// };
/// let attended = attention.forward(&tape, &parameters.on(&tape), &text, &image, &image, &options)?;
/// assert_eq!(attended.out.value().shape(), [1, 2, 4]);
/// assert_eq!(attended.weights.unwrap().value().to_vec::<f32>()?, [1., 0., 1., 0.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiHeadAttention {
    /// `W_q`, `W_k`, `W_v` and `W_o`, each `[inputs, outputs]`.
    pub weights: [ParameterId; 4],
    /// `b_q`, `b_k`, `b_v` and `b_o`.
    pub biases: Option<[ParameterId; 4]>,
    /// The widths and heads.
    pub sizes: MultiHeadSizes,
}

impl MultiHeadAttention {
    /// A layer with weights uniform in `±√(6 / (inputs + outputs))` (Glorot and Bengio, 2010; the usual one for attention) and biases 0,
    /// in f32; parameters `name.query.weight`, `name.query.bias` and so on for `key`, `value` and `output`. Biases do not decay.
    ///
    /// Errors: a width of 0; heads that do not divide the query width, or are of more than 256 features; `kv_heads` that do not divide
    /// the heads; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{MultiHeadAttention, MultiHeadSizes, Parameters, generator}};
    /// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
    /// let sizes = MultiHeadSizes { kv_heads: 2, ..MultiHeadSizes::new(64, 8) };
    /// let layer = MultiHeadAttention::new(&Device::Cpu, &mut parameters, "a", sizes, &mut random)?;
    /// let key = parameters.get(layer.weights[1]);
    /// assert_eq!((&*key.name, key.value.shape()), ("a.key.weight", &[64, 16][..])); // two heads of eight features
    /// let sizes = MultiHeadSizes::new(64, 7);
    /// let error = MultiHeadAttention::new(&Device::Cpu, &mut parameters, "b", sizes, &mut random).unwrap_err();
    /// assert!(error.to_string().contains("a divisor of the query width"));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        sizes: MultiHeadSizes,
        random: &mut impl Rng,
    ) -> Result<MultiHeadAttention> {
        let (mut weights, mut biases) = (vec![], vec![]);
        for (own, inputs, outputs) in sizes.projections()? {
            let bound = (6. / (inputs + outputs) as f32).sqrt();
            let values = (0..inputs * outputs).map(|_| random.random_range(-1f32..1.) * bound).collect();
            let weight = Tensor::from_vec(device, &[inputs, outputs], values)?;
            weights.push(parameters.add(format!("{name}.{own}.weight"), weight, true)?);
            if sizes.bias {
                let bias = Tensor::from_vec(device, &[outputs], vec![0f32; outputs])?;
                biases.push(parameters.add(format!("{name}.{own}.bias"), bias, false)?);
            }
        }
        let four = |ids: Vec<ParameterId>| <[ParameterId; 4]>::try_from(ids).ok();
        let weights = four(weights).expect("there are four projections");
        Ok(MultiHeadAttention { weights, biases: four(biases), sizes })
    }

    /// Queries `[batch, queries, query width]` over keys `[batch, keys, key width]` and values `[batch, keys, value width]`. All options
    /// of [`attention`](crate::ops::attention()) apply but the layout, which is the layer's own.
    ///
    /// What `key_mask` drops leaves no trace and gets no gradient, NaN neither, nor does it reach the weights' gradients; of what the
    /// other options leave out that holds for numbers alone. A query that sees no key gives `b_o`.
    ///
    /// Errors: other axes, widths, batches or lengths; the options', as the operation has them; `x` of another type than the
    /// parameters. Example: [`MultiHeadAttention`].
    pub fn forward(
        &self,
        tape: &Tape,
        parameters: &Bound,
        query: &Var,
        key: &Var,
        value: &Var,
        options: &AttentionOptions,
    ) -> Result<MultiHeadAttended> {
        self.check(query, key, value, options)?;
        let mask = options.key_mask.as_ref();
        let (key, value) = (keep_tokens(tape, key, mask)?, keep_tokens(tape, value, mask)?);
        self.attend(tape, parameters, [query, &key, &value], options)
    }

    /// The layer on tokens that have been checked and are finite where they are masked.
    pub(crate) fn attend(
        &self,
        tape: &Tape,
        parameters: &Bound,
        [query, key, value]: [&Var; 3],
        options: &AttentionOptions,
    ) -> Result<MultiHeadAttended> {
        let MultiHeadSizes { heads, kv_heads, .. } = self.sizes;
        let q = self.project(tape, parameters, 0, query)?;
        let k = self.project(tape, parameters, 1, key)?;
        let v = self.project(tape, parameters, 2, value)?;
        let layout = AttentionLayout::Packed { heads, kv_heads };
        let options = AttentionOptions { layout, ..options.clone() };
        // The result, the log-sum-exps, and the weights if there are any.
        let mut attended = tape.apply_all(&ATTENTION, options, &[&q, &k, &v])?.into_iter();
        let joined = attended.next().expect("attention has a result");
        Ok(MultiHeadAttended { out: self.project(tape, parameters, 3, &joined)?, weights: attended.nth(1) })
    }

    fn check(&self, query: &Var, key: &Var, value: &Var, options: &AttentionOptions) -> Result<()> {
        let (layer, sizes) = ("MultiHeadAttention", self.sizes);
        let [batch, _] = check_tokens(layer, "query", query, sizes.query)?;
        let of_keys = check_tokens(layer, "key", key, sizes.key)?;
        let of_values = check_tokens(layer, "value", value, sizes.value)?;
        if of_keys[0] != batch {
            return Err(Error::argument(layer, "key", format!("a batch of {batch}"), of_keys[0]));
        }
        if of_values != of_keys {
            let expected = format!("batch and length of the keys, {of_keys:?}");
            return Err(Error::argument(layer, "value", expected, format!("{of_values:?}")));
        }
        check_mask(layer, options.key_mask.as_ref(), of_keys)
    }

    fn project(&self, tape: &Tape, parameters: &Bound, which: usize, x: &Var) -> Result<Var> {
        let weight = parameters.get(self.weights[which]);
        match self.biases {
            Some(biases) => {
                tape.apply(&MATMUL, MatmulOptions::default(), &[x, weight, parameters.get(biases[which])])
            }
            None => tape.apply(&MATMUL, MatmulOptions::default(), &[x, weight]),
        }
    }
}
