// The one index of a workgroup: dispatches beyond 65535 groups are folded into two dimensions.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

