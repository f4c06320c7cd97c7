//! Convolutions of a graph that share a launch: over the same input, or side by side.

use super::{FuseOptions, FusionDecision, Pattern, only_reader, renumber};
use crate::graph::{Node, Step, TensorId};
use crate::problem::{
    Branches, Conv2d, MAX_CONVOLUTIONS, MAX_MERGED, MAX_PRODUCTS, Pool2d, Product, TensorDesc,
};

/// Number of launches, from the first on, that are examined for a group: an inception module has
/// seven.
const WINDOW: usize = 8;

/// Computes convolutions that do not wait for each other by one launch, where that is decided:
/// those that read the same tensor, among them a 1x1 behind the maxima of 3x3 pixels, else those of
/// equally many pixels. Where every group is taken, an Inception module becomes two launches, and
/// so does a fire module. Returns the nodes, and of their weights the numbers before.
pub(super) fn fuse(
    nodes: &[Node],
    options: &FuseOptions<'_>,
    decisions: &mut Vec<FusionDecision>,
) -> (Vec<Node>, Vec<usize>) {
    let mut weights = Vec::with_capacity(nodes.len());
    let mut next = 0;
    for node in nodes {
        let first = next;
        next += node.step.weights().len();
        weights.push(first..next);
    }
    let mut placed = vec![false; nodes.len()];
    let (mut fused, mut order) = (Vec::new(), Vec::new());
    for index in 0..nodes.len() {
        if placed[index] {
            continue;
        }
        match group(nodes, index, &placed, options, decisions) {
            Some(Group { node, members }) => {
                for member in members {
                    placed[member] = true;
                    order.extend(weights[member].clone());
                }
                fused.push(node);
            }
            None => {
                placed[index] = true;
                order.extend(weights[index].clone());
                fused.push(nodes[index].clone());
            }
        }
    }
    renumber(&mut fused);
    (fused, order)
}

/// Launches to be fused into one.
struct Group {
    node: Node,
    /// Indices of the launches; convolutions stand in the order of the fused step.
    members: Vec<usize>,
}

/// A convolution, with the pooling before it if no other launch reads its result.
#[derive(Clone, Copy)]
struct Unit<'a> {
    node: &'a Node,
    at: usize,
    conv: &'a Conv2d,
    pooling: Option<(usize, &'a Pool2d)>,
    from: TensorId,
    input: &'a TensorDesc,
}

impl<'a> Unit<'a> {
    /// Candidate that begins at node `at`, if that node can be fused.
    fn of(nodes: &'a [Node], at: usize) -> Option<Unit<'a>> {
        let plain = |at: usize| match &nodes[at].step {
            Step::Conv(conv) if conv.groups() == 1 && conv.residual().is_none() => Some(conv),
            _ => None,
        };
        let [from] = nodes[at].from[..] else {
            return None;
        };
        if let Step::Pool(pool) = &nodes[at].step {
            let mut behind = at + 1..nodes.len();
            let reader = behind.find(|&other| only_reader(nodes, &nodes[at], &nodes[other]))?;
            return Some(Unit {
                node: &nodes[reader],
                at: reader,
                conv: plain(reader)?,
                pooling: Some((at, pool)),
                from,
                input: pool.input(),
            });
        }
        let conv = plain(at)?;
        Some(Unit {
            node: &nodes[at],
            at,
            conv,
            pooling: None,
            from,
            input: conv.input(),
        })
    }

    /// Returns whether all of its inputs have been written.
    fn is_ready(&self, nodes: &[Node], placed: &[bool]) -> bool {
        let first = self.input.channel_offset();
        let channels = first..first + self.input.c();
        let mut waits = nodes.iter().zip(placed).filter(|(_, placed)| !**placed);
        !waits.any(|(node, _)| {
            node.writes().any(|(place, desc)| {
                let first = desc.channel_offset();
                place == self.from && first < channels.end && channels.start < first + desc.c()
            })
        })
    }

    fn reads_with(&self, other: &Unit<'_>) -> bool {
        (self.from, self.input) == (other.from, other.input)
    }

    /// Returns whether their filters can be concatenated.
    fn merges_with(&self, other: &Unit<'_>) -> bool {
        self.reads_with(other)
            && (self.pooling, other.pooling) == (None, None)
            && self.conv.window() == other.conv.window()
    }
}

/// The group that begins with a launch: the first of three choices that a kernel accepts and, under
/// [`FusePolicy::IfFaster`], that the model ranks first. The choices: all convolutions over its
/// input; those of them without a pooling; those without a pooling that compute equally many
/// pixels. With [`FuseOptions::separate_poolings`] the first choice is a pooling with its
/// convolution. A later choice, or a smaller group, may be faster; this is not examined. All
/// launches before it have been placed.
fn group(
    nodes: &[Node],
    first: usize,
    placed: &[bool],
    options: &FuseOptions<'_>,
    decisions: &mut Vec<FusionDecision>,
) -> Option<Group> {
    let begins = Unit::of(nodes, first)?;
    let pixels = |unit: &Unit<'_>| {
        let output = unit.conv.output();
        [output.n(), output.h(), output.w()]
    };
    let window = first..nodes.len().min(first + WINDOW);
    let ready: Vec<Unit<'_>> = window
        .filter(|&at| !placed[at])
        .filter_map(|at| Unit::of(nodes, at))
        .filter(|unit| unit.is_ready(nodes, placed) && pixels(unit) == pixels(&begins))
        .collect();
    let only = |keep: &dyn Fn(&Unit<'_>) -> bool| -> Vec<Unit<'_>> {
        ready.iter().copied().filter(|unit| keep(unit)).collect()
    };
    let same = match (options.separate_poolings, begins.pooling) {
        (false, _) => only(&|unit| unit.reads_with(&begins)),
        (true, Some(_)) => vec![begins],
        (true, None) => Vec::new(),
    };
    let unpooled = only(&|unit| unit.reads_with(&begins) && unit.pooling.is_none());
    let side_by_side = only(&|unit| unit.pooling.is_none());
    let choices = [(same, true), (unpooled, true), (side_by_side, false)];
    choices.iter().find_map(|(units, one_input)| {
        let begun = units.iter().any(|unit| unit.at == begins.at);
        // A pooling and its convolution are two nodes.
        let fuses = units.len() > 1 || (options.separate_poolings && begins.pooling.is_some());
        if !fuses || !begun {
            return None;
        }
        launch(nodes, units, *one_input, options, decisions)
    })
}

/// Units as one launch, if there is a kernel for it and, under [`FusePolicy::IfFaster`], the model
/// ranks it before separate launches. Units beyond the capacity of [`Branches`] are left for later
/// groups; the first unit never is.
fn launch(
    nodes: &[Node],
    units: &[Unit<'_>],
    one_input: bool,
    options: &FuseOptions<'_>,
    decisions: &mut Vec<FusionDecision>,
) -> Option<Group> {
    let mut products: Vec<Vec<Unit<'_>>> = Vec::new();
    for unit in units.iter().take(MAX_CONVOLUTIONS) {
        let room = |product: &&mut Vec<Unit<'_>>| {
            product.len() < MAX_MERGED && product[0].merges_with(unit)
        };
        let more = products.len() < MAX_PRODUCTS;
        match products.iter_mut().find(room) {
            Some(product) => product.push(*unit),
            None if more => products.push(vec![*unit]),
            None => {}
        }
    }
    let each = products.iter().map(|product| {
        let convolutions = product.iter().map(|unit| unit.conv.clone()).collect();
        match product[0].pooling {
            Some((_, pool)) => Product::pooled(pool.clone(), convolutions),
            None => Product::new(convolutions),
        }
    });
    let each: Vec<Product> = each.collect::<Result<_, _>>().ok()?;
    let branches = match one_input {
        true => Branches::over_one_input(each),
        false => Branches::new(each),
    };
    let branches = branches.ok()?;
    let from = match one_input {
        true => vec![products[0][0].from],
        false => products.iter().map(|product| product[0].from).collect(),
    };
    let all = || products.iter().flatten();
    let names: Vec<&str> = all().map(|unit| &*unit.node.name).collect();
    let poolings = all().filter_map(|unit| Some(unit.pooling?.0));
    let members: Vec<usize> = all().map(|unit| unit.at).chain(poolings).collect();
    let node = Node {
        name: names.join(" + ").into(),
        step: Step::Branches(Box::new(branches)),
        from,
        to: all().flat_map(|unit| unit.node.to.clone()).collect(),
        residual: None,
    };
    let separate: Vec<Node> = members.iter().map(|&at| nodes[at].clone()).collect();
    let alternatives = [
        ("one launch", std::slice::from_ref(&node)),
        ("separate launches", &separate),
    ];
    let decision = FusionDecision::between(Pattern::Branches, &alternatives, options);
    let is_fused = decision.is_fused();
    decisions.push(decision);
    is_fused.then_some(Group { node, members })
}
