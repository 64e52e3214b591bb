// The `kept` largest of each row, largest first, equal ones by index; one workgroup per row. The best so far and a piece of the
// row behind them are sorted together, bitonically, in workgroup memory: 2^log2_slots pairs.
struct Params { rows: u32, cols: u32, kept: u32, log2_slots: u32, first_row: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;

// What stands where there is no entry: behind every entry, whose index is lower.
const LOWEST: f32 = -3.4028234e38;
const NOWHERE: u32 = 0xffffffffu;

// 16 KiB together, all that every device has.
var<workgroup> best: array<f32, 2048>;
var<workgroup> best_place: array<u32, 2048>;

// Puts the pairs of two slots in order: the larger first where `falling`, else last.
fn order(i: u32, j: u32, falling: bool) {
    let a = best[i];
    let b = best[j];
    let place_a = best_place[i];
    let place_b = best_place[j];
    let a_first = a > b || (a == b && place_a < place_b);
    if a_first != falling {
        best[i] = b;
        best[j] = a;
        best_place[i] = place_b;
        best_place[j] = place_a;
    }
}

fn sort(lane: u32) {
    let half = (1u << params.log2_slots) / 2u;
    for (var level = 0u; level < params.log2_slots; level++) {
        for (var step = level + 1u; step > 0u; step--) {
            let stride = 1u << (step - 1u);
            for (var i = lane; i < half; i += 256u) {
                let slot = (i / stride) * stride * 2u + i % stride;
                // Runs of 2^(level + 1) slots fall and rise in turn; the last one, all of them, falls.
                order(slot, slot + stride, ((slot >> (level + 1u)) & 1u) == 0u);
            }
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = params.first_row + group_index(group, groups);
    if row >= params.rows { return; }
    let slots = 1u << params.log2_slots;
    for (var i = lane; i < params.kept; i += 256u) {
        best[i] = LOWEST;
        best_place[i] = NOWHERE;
    }
    for (var first = 0u; first < params.cols; first += slots - params.kept) {
        for (var i = params.kept + lane; i < slots; i += 256u) {
            let col = first + i - params.kept;
            let inside = col < params.cols;
            best[i] = select(LOWEST, f32(x[row * params.cols + min(col, params.cols - 1u)]), inside);
            best_place[i] = select(NOWHERE, col, inside);
        }
        workgroupBarrier();
        sort(lane);
    }
    for (var i = lane; i < params.kept; i += 256u) {
        out[row * params.kept + i] = elem(best[i]);
        places[row * params.kept + i] = best_place[i];
    }
}
