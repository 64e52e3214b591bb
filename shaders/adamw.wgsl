// One step of AdamW (Loshchilov and Hutter, 2019) in place: decay the weight, move the moments, step by the corrected ratio.
struct Params {
    count: u32,
    keep: f32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    correction1: f32,
    correction2: f32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> first: array<f32>;
@group(0) @binding(4) var<storage, read_write> second: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let g = grad[i];
    let m = params.beta1 * first[i] + params.one_minus_beta1 * g;
    let v = params.beta2 * second[i] + params.one_minus_beta2 * g * g;
    let ratio = (m / params.correction1) / (sqrt(v / params.correction2) + params.eps);
    weight[i] = weight[i] * params.keep - params.rate * ratio;
    first[i] = m;
    second[i] = v;
}
