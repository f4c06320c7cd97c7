//! Live ranges of virtual registers and predicates.

use crate::ir::operations::{Place, Role, visit};
use crate::ir::{Inst, PredSrc};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::lower::passes::flow_graph::Graph;

/// A half-open range of code. Instruction `i` reads at point `2 * i` and writes at `2 * i + 1`.
pub type Segment = (u32, u32);

/// The segments of each register and then of each predicate, in order and disjoint.
pub struct Liveness {
    /// Segments, indexed by register or predicate.
    pub segments: Vec<Vec<Segment>>,
    /// Number of registers.
    pub regs: usize,
}

const LOCAL: u32 = u32::MAX;

/// Maximum number of bits in a set, one per block and per register that is live across blocks: 128
/// MiB. There are three such sets.
const MAX_BITS: usize = 1 << 30;

/// Finds the segments.
///
/// # Errors
/// The product of blocks and registers exceeds the limit.
pub fn find(code: &[Inst], graph: &Graph, regs: usize, preds: usize) -> Result<Liveness> {
    let walker = Walker { code, regs };
    let places = regs + preds;
    let mut marks = Marks {
        set: vec![false; places],
        seen: Vec::new(),
    };
    let blocks = 0..graph.blocks.len();
    let exposed: Vec<Vec<u32>> = blocks
        .map(|block| walker.exposed(graph, block, &mut marks))
        .collect();
    // Registers that are live in one block only need no bit in the sets of the data flow.
    let mut number = vec![LOCAL; places];
    let mut global = Vec::new();
    for &place in exposed.iter().flatten() {
        if number[place as usize] == LOCAL {
            number[place as usize] = global.len() as u32;
            global.push(place);
        }
    }
    if graph.blocks.len().saturating_mul(global.len()) > MAX_BITS {
        return Err(LoadError::new(
            0,
            format!(
                "a kernel of {} basic blocks with {} registers that live across them is too large",
                graph.blocks.len(),
                global.len()
            ),
        ));
    }
    let out = walker.live_out(graph, &exposed, &number, global.len());
    let mut segments = vec![Vec::new(); places];
    let words = global.len().div_ceil(64);
    let mut open = Open {
        end: vec![0; places],
        list: Vec::new(),
    };
    for block in (0..graph.blocks.len()).rev() {
        let end = 2 * graph.blocks[block].end as u32;
        for index in ones(&out[block * words..(block + 1) * words]) {
            open.use_until(global[index] as usize, end);
        }
        walker.segments(graph, block, &mut open, &mut segments);
    }
    for list in &mut segments {
        list.reverse();
    }
    Ok(Liveness { segments, regs })
}

/// The registers that are live at a point of a backward traversal.
struct Open {
    /// End of the open segment, 0 if none is.
    end: Vec<u32>,
    /// The registers that have had an open segment in this block.
    list: Vec<u32>,
}

impl Open {
    fn use_until(&mut self, place: usize, end: u32) {
        if self.end[place] == 0 {
            self.end[place] = end;
            self.list.push(place as u32);
        }
    }
}

/// Adds a segment before all existing ones.
fn prepend(list: &mut Vec<Segment>, start: u32, end: u32) {
    match list.last_mut() {
        Some(last) if last.0 <= end => last.0 = start,
        _ => list.push((start, end)),
    }
}

struct Walker<'c> {
    code: &'c [Inst],
    regs: usize,
}

impl Walker<'_> {
    fn visit(&self, inst: usize, mut each: impl FnMut(usize, Role)) {
        let mut inst = self.code[inst];
        visit(&mut inst, &mut |place, role| match place {
            Place::Reg(reg) => each(usize::from(reg.0), role),
            Place::Pred(pred) => each(self.regs + usize::from(pred.0), role),
        });
    }

    /// The registers whose value on entry a block may read.
    fn exposed(&self, graph: &Graph, block: usize, live: &mut Marks) -> Vec<u32> {
        for i in (graph.blocks[block].start..graph.blocks[block].end).rev() {
            if self.code[i].guard == PredSrc::TRUE {
                self.visit(i, |place, role| {
                    if role.writes() {
                        live.remove(place);
                    }
                });
            } else {
                // A guarded write keeps the old value if the guard is false.
                self.visit(i, |place, role| {
                    if role.writes() {
                        live.insert(place);
                    }
                });
            }
            self.visit(i, |place, role| {
                if role.reads() {
                    live.insert(place);
                }
            });
        }
        live.list()
    }

    /// The sets of global registers that are live at the end of each block, one after another.
    fn live_out(
        &self,
        graph: &Graph,
        exposed: &[Vec<u32>],
        number: &[u32],
        count: usize,
    ) -> Vec<u64> {
        let words = count.div_ceil(64);
        let blocks = graph.blocks.len();
        let mut killed = vec![0u64; blocks * words];
        let mut live_in = vec![0u64; blocks * words];
        for (block, exposed) in exposed.iter().enumerate() {
            let at = block * words;
            for i in graph.blocks[block].start..graph.blocks[block].end {
                if self.code[i].guard == PredSrc::TRUE {
                    self.visit(i, |place, role| {
                        if role.writes() && number[place] != LOCAL {
                            killed[at + number[place] as usize / 64] |= 1 << (number[place] % 64);
                        }
                    });
                }
            }
            for &place in exposed {
                let index = number[place as usize];
                live_in[at + index as usize / 64] |= 1 << (index % 64);
            }
        }
        let mut out = vec![0u64; blocks * words];
        // In postorder a few rounds suffice, and only blocks with a changed successor are examined
        // again.
        let order = graph.postorder();
        let mut stale = vec![true; blocks];
        let mut changed = true;
        while changed {
            changed = false;
            for &block in &order {
                if !std::mem::replace(&mut stale[block], false) {
                    continue;
                }
                let mut grown = false;
                for word in 0..words {
                    let at = block * words + word;
                    let next = graph.blocks[block].next.iter();
                    let new = next.fold(0, |set, &next| set | live_in[next * words + word]);
                    if new != out[at] {
                        out[at] = new;
                        let before = live_in[at];
                        live_in[at] |= new & !killed[at];
                        grown |= live_in[at] != before;
                    }
                }
                if grown {
                    changed = true;
                    for &previous in &graph.blocks[block].previous {
                        stale[previous] = true;
                    }
                }
            }
        }
        out
    }

    /// Traverses a block backwards and records its segments.
    fn segments(
        &self,
        graph: &Graph,
        block: usize,
        open: &mut Open,
        segments: &mut [Vec<Segment>],
    ) {
        let bounds = &graph.blocks[block];
        for i in (bounds.start..bounds.end).rev() {
            let point = 2 * i as u32;
            let guarded = self.code[i].guard != PredSrc::TRUE;
            self.visit(i, |place, role| {
                if !role.writes() {
                    return;
                }
                open.use_until(place, point + 2);
                if !guarded {
                    prepend(&mut segments[place], point + 1, open.end[place]);
                    open.end[place] = 0;
                }
            });
            self.visit(i, |place, role| {
                if role.reads() {
                    open.use_until(place, point + 1);
                }
            });
        }
        let start = 2 * bounds.start as u32;
        for place in open.list.drain(..) {
            let place = place as usize;
            let end = std::mem::take(&mut open.end[place]);
            if end != 0 {
                prepend(&mut segments[place], start, end);
            }
        }
    }
}

/// A set of registers that also lists all that were ever in it.
struct Marks {
    set: Vec<bool>,
    seen: Vec<u32>,
}

impl Marks {
    fn insert(&mut self, place: usize) {
        if !std::mem::replace(&mut self.set[place], true) {
            self.seen.push(place as u32);
        }
    }

    fn remove(&mut self, place: usize) {
        self.set[place] = false;
    }

    /// Removes and returns all its elements.
    fn list(&mut self) -> Vec<u32> {
        let mut list = std::mem::take(&mut self.seen);
        list.retain(|&place| std::mem::take(&mut self.set[place as usize]));
        list
    }
}

/// The indices of the one bits.
fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(i, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(i * 64 + bit)
        })
    })
}
