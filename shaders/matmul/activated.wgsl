// Which activation is a constant of the pipeline: a kernel has this in its code for every sum that an invocation holds.
fn activated(value: f32) -> f32 {
    return activation(ACTIVATION, value, params.alpha, params.beta);
}
