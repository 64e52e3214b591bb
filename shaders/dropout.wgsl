// out = x / (1 - p) where the element is kept, else 0; which are is a function of the seed and the element's number alone.
struct Params { count: u32, first: u32, threshold: u32, seed_low: u32, seed_high: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let seed = vec2(params.seed_low, params.seed_high);
    let kept = random(seed, params.first + i, 0u) >= params.threshold;
    out[i] = elem(select(0.0, f32(x[i]) * params.scale, kept));
}
