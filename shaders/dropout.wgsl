// out = x / (1 - p) where the element is kept, else 0; which are is a function of the seed and the element's number alone.
struct Params { count: u32, first: u32, threshold: u32, seed_low: u32, seed_high: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

fn rotated(v: u32, by: u32) -> u32 {
    return (v << by) | (v >> (32u - by));
}

// Threefry-2x32 of 20 rounds: the first word for the counter (number, 0).
fn random(number: u32) -> u32 {
    var keys = array<u32, 3>(
        params.seed_low, params.seed_high, params.seed_low ^ params.seed_high ^ 0x1bd11bdau,
    );
    var rotations = array<u32, 8>(13u, 15u, 26u, 6u, 17u, 29u, 16u, 24u);
    var a = number + keys[0];
    var b = keys[1];
    for (var round = 0u; round < 20u; round++) {
        a += b;
        b = rotated(b, rotations[round % 8u]) ^ a;
        if round % 4u == 3u {
            let turn = round / 4u + 1u;
            a += keys[turn % 3u];
            b += keys[(turn + 1u) % 3u] + turn;
        }
    }
    return a;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let kept = random(params.first + i) >= params.threshold;
    out[i] = elem(select(0.0, f32(x[i]) * params.scale, kept));
}
