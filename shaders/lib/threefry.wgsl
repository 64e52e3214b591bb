fn rotated(v: u32, by: u32) -> u32 {
    return (v << by) | (v >> (32u - by));
}

// Threefry-2x32 of 20 rounds: the first word for the counter (number, stream).
fn random(seed: vec2<u32>, number: u32, stream: u32) -> u32 {
    var keys = array<u32, 3>(seed.x, seed.y, seed.x ^ seed.y ^ 0x1bd11bdau);
    var rotations = array<u32, 8>(13u, 15u, 26u, 6u, 17u, 29u, 16u, 24u);
    var a = number + keys[0];
    var b = stream + keys[1];
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

