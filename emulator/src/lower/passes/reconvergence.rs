//! Reconvergence of the lanes of a branch: at the branch's immediate post-dominator.
//!
//! Post-dominators apply to lanes that stay. An exiting block does not continue, so it must not
//! prevent other lanes from reconverging: in `if (a) { if (b) return; x } y` the outer branch
//! reconverges at `y`, although some lanes never reach it. So each turn has one exit as *the* end:
//! the one that most blocks can reach. Blocks that cannot reach it are skipped; their turn comes
//! with one of the remaining exits. Lanes that leave the blocks of a turn never return to them:
//! otherwise those blocks would reach the turn's exit, too.

use std::collections::VecDeque;

use crate::ir::{NO_PC, Op, PredSrc};
use crate::lower::draft::Draft;
use crate::lower::passes::flow_graph::Graph;

/// Maximum number of exits that are tried as the end of a turn.
const MAX_TRIED: usize = 64;

/// Sets the label of the point of reconvergence of every branch on which lanes may diverge.
pub fn set(draft: &mut Draft, graph: &Graph) {
    let meet = immediate_post_dominators(graph, |block| {
        matches!(draft.code[graph.blocks[block].end - 1].op, Op::Exit)
    });
    let mut labels = vec![NO_PC; graph.blocks.len()];
    for (block, meet) in graph.blocks.iter().zip(meet) {
        let inst = &mut draft.code[block.end - 1];
        let reconverge = match &mut inst.op {
            Op::Bra { reconverge, .. } if inst.guard != PredSrc::TRUE => reconverge,
            Op::BrxIdx { reconverge, .. } => reconverge,
            _ => continue,
        };
        let Some(meet) = meet else { continue };
        if labels[meet] == NO_PC {
            labels[meet] = draft.labels.len() as u32;
            draft.labels.push(graph.blocks[meet].start as u32);
        }
        *reconverge = labels[meet];
    }
}

/// The immediate post-dominator of each block, as defined in the module's documentation. `exits`
/// returns true for blocks that end by returning and false for those that end in a trap; the former
/// are preferred as ends.
pub fn immediate_post_dominators(
    graph: &Graph,
    exits: impl Fn(usize) -> bool,
) -> Vec<Option<usize>> {
    let count = graph.blocks.len();
    let mut meet = vec![None; count];
    let mut left = vec![true; count];
    let mut ends: Vec<usize> = (0..count)
        .filter(|&block| graph.blocks[block].next.is_empty())
        .collect();
    // The last is tried first, so that it is chosen among equals.
    ends.sort_by_key(|&block| (!exits(block), std::cmp::Reverse(block)));
    let mut ends = VecDeque::from(ends);
    let mut turn = Turn::new(count);
    for last in (0..count).rev() {
        // Turns continue until the block has had its own.
        while left[last] {
            let end = choose_end(graph, &left, &mut ends, &exits, &mut turn).unwrap_or(last);
            turn.walk(graph, &left, end);
            turn.dominators(graph, &mut meet);
            for &block in &turn.postorder {
                left[block] = false;
            }
        }
    }
    meet
}

/// Chooses the end that most of the remaining blocks reach. An end reaches no other end, so only
/// its own turn removes it.
fn choose_end(
    graph: &Graph,
    left: &[bool],
    ends: &mut VecDeque<usize>,
    exits: &impl Fn(usize) -> bool,
    turn: &mut Turn,
) -> Option<usize> {
    let first = *ends.front()?;
    let mut best = (0, 0);
    for (index, &end) in ends
        .iter()
        .enumerate()
        .take(MAX_TRIED)
        .take_while(|&(_, &end)| exits(end) == exits(first))
    {
        turn.walk(graph, left, end);
        let reach = turn.postorder.len();
        if reach > best.0 {
            best = (reach, index);
        }
    }
    ends.remove(best.1)
}

/// The blocks that reach an end, in the postorder of a backward traversal from it.
struct Turn {
    postorder: Vec<usize>,
    /// Each block's index in `postorder`, valid if `seen` has the latest traversal.
    place: Vec<usize>,
    /// The latest traversal that reached each block. The cost of a traversal depends on the visited
    /// blocks only, not on the size of the graph.
    seen: Vec<u32>,
    walk: u32,
    open: Vec<(usize, usize)>,
}

impl Turn {
    fn new(count: usize) -> Turn {
        Turn {
            postorder: Vec::new(),
            place: vec![0; count],
            seen: vec![0; count],
            walk: 0,
            open: Vec::new(),
        }
    }

    /// Traverses the graph from a new end.
    fn walk(&mut self, graph: &Graph, left: &[bool], end: usize) {
        self.walk += 1;
        self.postorder.clear();
        self.open.push((end, 0));
        self.seen[end] = self.walk;
        while let Some((block, tried)) = self.open.last_mut() {
            let block = *block;
            if let Some(&previous) = graph.blocks[block].previous.get(*tried) {
                *tried += 1;
                if left[previous] && self.seen[previous] != self.walk {
                    self.seen[previous] = self.walk;
                    self.open.push((previous, 0));
                }
            } else {
                self.place[block] = self.postorder.len();
                self.postorder.push(block);
                self.open.pop();
            }
        }
    }

    /// The iterative algorithm of Cooper, Harvey and Kennedy, on the reversed graph.
    fn dominators(&self, graph: &Graph, meet: &mut [Option<usize>]) {
        let root = self.postorder.len() - 1;
        // Immediate dominators, by index in the postorder.
        let mut dominator = vec![usize::MAX; self.postorder.len()];
        dominator[root] = root;
        let mut changed = true;
        while changed {
            changed = false;
            for place in (0..root).rev() {
                let nexts = graph.blocks[self.postorder[place]]
                    .next
                    .iter()
                    .filter(|&&next| self.seen[next] == self.walk)
                    .map(|&next| self.place[next]);
                let known = nexts.filter(|&next| dominator[next] != usize::MAX);
                let new = known
                    .reduce(|a, b| common(&dominator, a, b))
                    .unwrap_or(root);
                if dominator[place] != new {
                    dominator[place] = new;
                    changed = true;
                }
            }
        }
        for place in 0..root {
            meet[self.postorder[place]] = Some(self.postorder[dominator[place]]);
        }
    }
}

fn common(dominator: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while a < b {
            a = dominator[a];
        }
        while b < a {
            b = dominator[b];
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::passes::flow_graph::Block;

    fn graph(edges: &[&[usize]]) -> Graph {
        let block = |next: &&[usize]| Block {
            start: 0,
            end: 1,
            next: next.to_vec(),
            previous: Vec::new(),
        };
        let mut blocks: Vec<Block> = edges.iter().map(block).collect();
        for (from, next) in edges.iter().enumerate() {
            next.iter().for_each(|&to| blocks[to].previous.push(from));
        }
        Graph { blocks }
    }

    #[test]
    fn branches_loops_and_several_exits() {
        // if / else
        let meet = immediate_post_dominators(&graph(&[&[1, 2], &[3], &[3], &[]]), |_| true);
        assert_eq!(meet, [Some(3), Some(3), Some(3), None]);
        // A loop with a break: 1 is the head, 2 breaks to 4.
        let meet =
            immediate_post_dominators(&graph(&[&[1], &[2, 4], &[3, 4], &[1], &[]]), |_| true);
        assert_eq!(meet, [Some(1), Some(4), Some(4), Some(1), None]);
        // if (a) { if (b) return; x } y, with an exit of its own in the middle: 0 meets at 4.
        let meet =
            immediate_post_dominators(&graph(&[&[1, 4], &[2, 3], &[], &[4], &[5], &[]]), |_| true);
        assert_eq!(meet, [Some(4), Some(3), None, Some(4), Some(5), None]);
        // A trap is no end, even if it comes last.
        let meet =
            immediate_post_dominators(&graph(&[&[1, 3], &[2], &[], &[]]), |block| block != 3);
        assert_eq!(meet, [Some(1), Some(2), None, None]);
        // No exit at all.
        let meet = immediate_post_dominators(&graph(&[&[1], &[1]]), |_| true);
        assert_eq!(meet, [Some(1), None]);
    }
}
