// What the plain kernels of attention share: tiles of 32 queries by 32 keys, a workgroup of 8 by 8 invocations to each. An invocation has
// four rows next to each other, by thread.y, and four columns 8 apart, by thread.x.
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;

const TILE: u32 = 32u;
// Columns of a result that a workgroup has.
const CHUNK: u32 = 64u;

var<workgroup> tile: array<f32, 1024>;
var<workgroup> partial: array<vec4<f32>, 64>;

fn rows_of(first: u32, thread: vec3<u32>) -> vec4<u32> {
    return first + thread.y * 4u + vec4(0u, 1u, 2u, 3u);
}

fn columns_of(first: u32, thread: vec3<u32>) -> vec4<u32> {
    return first + thread.x + vec4(0u, 8u, 16u, 24u);
}

fn weighed(weight: f32, values: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), weight * values, weight != 0.0);
}

// As add_outer, where a is of weights: what has none leaves no trace, NaN neither.
fn add_weighed(sums: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        sums[0] + weighed(a.x, b),
        sums[1] + weighed(a.y, b),
        sums[2] + weighed(a.z, b),
        sums[3] + weighed(a.w, b),
    );
}

// Queries by keys. Rows and columns past the edge read the last one, and are not seen.
fn query_key(head: Head, rows: vec4<u32>, columns: vec4<u32>) -> mat4x4<f32> {
    let a = head.q + min(rows, vec4(params.queries - 1u)) * params.q_row;
    let b = head.k + min(columns, vec4(params.keys - 1u)) * params.k_row;
    var sums = mat4x4<f32>();
    for (var p = 0u; p < params.dh; p++) {
        let left = vec4(q[a.x + p], q[a.y + p], q[a.z + p], q[a.w + p]);
        sums = add_outer(sums, left, vec4(k[b.x + p], k[b.y + p], k[b.z + p], k[b.w + p]));
    }
    return sums;
}

// e^(S - lse), 0 where a pair does not see each other.
fn probabilities(
    head: Head,
    rows: vec4<u32>,
    columns: vec4<u32>,
    lse: vec4<f32>,
    products: mat4x4<f32>,
) -> mat4x4<f32> {
    var all = products;
    for (var n = 0u; n < 16u; n++) {
        let r = n / 4u;
        let c = n % 4u;
        let s = score(head, rows[r], columns[c], all[r][c]);
        all[r][c] = select(exp(s - lse[r]), 0.0, s == LOWEST);
    }
    return all;
}

// The sum of what the eight invocations of each row have, for its four rows.
fn rows_sum(own: vec4<f32>, thread: vec3<u32>) -> vec4<f32> {
    partial[thread.y * 8u + thread.x] = own;
    workgroupBarrier();
    var sum = vec4(0.0);
    for (var x = 0u; x < 8u; x++) {
        sum += partial[thread.y * 8u + x];
    }
    workgroupBarrier();
    return sum;
}

fn rows_max(own: vec4<f32>, thread: vec3<u32>) -> vec4<f32> {
    partial[thread.y * 8u + thread.x] = own;
    workgroupBarrier();
    var largest = own;
    for (var x = 0u; x < 8u; x++) {
        largest = max(largest, partial[thread.y * 8u + x]);
    }
    workgroupBarrier();
    return largest;
}

// Shares an invocation's part of a tile with the others.
fn share(own: mat4x4<f32>, thread: vec3<u32>) {
    let first = thread.y * 4u * TILE + thread.x;
    for (var n = 0u; n < 4u; n++) {
        let at = first + n * TILE;
        let line = own[n];
        tile[at] = line.x;
        tile[at + 8u] = line.y;
        tile[at + 16u] = line.z;
        tile[at + 24u] = line.w;
    }
}

// A column of the tile for an invocation's four rows.
fn tile_column(column: u32, thread: vec3<u32>) -> vec4<f32> {
    let at = thread.y * 4u * TILE + column;
    return vec4(tile[at], tile[at + TILE], tile[at + 2u * TILE], tile[at + 3u * TILE]);
}

// A row of the tile for the four columns that an invocation has as rows of what it makes.
fn tile_row(row: u32, thread: vec3<u32>) -> vec4<f32> {
    let at = row * TILE + thread.y * 4u;
    return vec4(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
}

