//! Graphs: created empty or by capture, instantiated, launched.

use std::ffi::{c_char, c_uint};
use std::sync::{Arc, Mutex};

use crate::driver::capture;
use crate::driver::current::{healthy, stream};
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::state::{AllocationKind, Graph, GraphExec, Node, Op, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::{noted, submit};
use crate::driver::types::{Handle, In, Out, check};

/// Flags of an instantiation: free on launch, upload, device launch, node priorities.
const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const KNOWN_FLAGS: u64 = 15;

fn instantiate(out: Out<Handle>, graph: Handle, flags: u64) -> Result {
    check(!out.is_null() && flags & !KNOWN_FLAGS == 0)?;
    check(flags & DEVICE_LAUNCH == 0 || flags & AUTO_FREE == 0)?;
    healthy()?;
    if flags & DEVICE_LAUNCH != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let driver = driver()?;
    let nodes = lock(&driver.graphs.get(graph)?.nodes).clone();
    let made = driver.execs.insert(|handle| GraphExec {
        last: Mutex::default(),
        handle,
        nodes,
        flags,
    });
    out.set(made.handle)
}

/// Frees the memory of a graph's allocation nodes once neither the graph nor an instance refers to
/// them.
fn release_memory(nodes: &[Node]) -> Result {
    let driver = driver()?;
    let mut addresses = nodes.iter().filter_map(|node| match node.op {
        Op::Alloc(address) => Some(address),
        _ => None,
    });
    addresses.try_for_each(|address| {
        let uses = |nodes: &[Node]| {
            nodes
                .iter()
                .any(|node| matches!(node.op, Op::Alloc(other) if other == address))
        };
        let held = driver.graphs.any(|graph| uses(&lock(&graph.nodes)))
            || driver.execs.any(|exec| uses(&exec.nodes));
        match driver.find(address) {
            Some((_, _, allocation)) if allocation.kind == AllocationKind::Graph && !held => {
                crate::driver::release::release(address)
            }
            _ => Ok(()),
        }
    })
}

/// Operations of a graph's nodes, with resolved memory. After an error nothing has been freed.
fn prepare(nodes: &[Node]) -> Result<Vec<Op>> {
    let mut ops = Vec::with_capacity(nodes.len());
    for node in nodes {
        ops.push(match &node.op {
            free @ Op::Free(_) => free.clone(),
            other => other.clone().prepare()?,
        });
    }
    for op in ops.iter_mut().filter(|op| matches!(op, Op::Free(_))) {
        *op = op.clone().prepare()?;
    }
    Ok(ops)
}

/// Writes up to `count` handles, and their total number.
fn give_nodes(handles: &[Handle], out: Out<Handle>, count: Out<usize>) -> Result {
    let room = In(count.0.cast_const()).get()?;
    if out.is_null() {
        return count.set(handles.len());
    }
    for (index, &handle) in handles.iter().take(room).enumerate() {
        Out(out.0.wrapping_add(index)).set(handle)?;
    }
    for index in handles.len()..room {
        Out(out.0.wrapping_add(index)).set(0)?;
    }
    count.set(handles.len().min(room))
}

/// The graph of a node, and the node's index in it.
fn node(handle: Handle) -> Result<(Arc<Graph>, usize)> {
    driver()?
        .graphs
        .find_map(|graph| {
            lock(&graph.nodes)
                .iter()
                .position(|node| node.handle == handle)
        })
        .ok_or(CUresult::INVALID_HANDLE)
}

driver! {
    fn cuGraphCreate(out: Out<Handle>, flags: c_uint) {
        check(!out.is_null() && flags == 0)?;
        let made = driver()?.graphs.insert(|handle| Graph { handle, nodes: Mutex::default() });
        out.set(made.handle)
    }

    fn cuGraphClone(out: Out<Handle>, original: Handle) {
        check(!out.is_null())?;
        let original = driver()?.graphs.get(original)?;
        let nodes = lock(&original.nodes).iter()
            .map(|node| Node::new(node.op.clone(), node.after.clone())).collect();
        let made = driver()?.graphs.insert(|handle| Graph { handle, nodes: Mutex::new(nodes) });
        out.set(made.handle)
    }

    fn cuGraphDestroy(handle: Handle) {
        let graph = driver()?.graphs.remove(handle)?;
        let nodes = std::mem::take(&mut *lock(&graph.nodes));
        release_memory(&nodes)
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(out, graph, flags)
    }

    fn cuGraphInstantiate_v2(
        out: Out<Handle>,
        graph: Handle,
        error_node: Out<Handle>,
        _log: Out<c_char>,
        _log_bytes: usize,
    ) {
        error_node.set_if_wanted(0);
        instantiate(out, graph, 0)
    }

    fn cuGraphExecDestroy(handle: Handle) {
        let exec = driver()?.execs.remove(handle)?;
        if exec.nodes.iter().any(|node| matches!(node.op, Op::Alloc(_))) {
            let last = *lock(&exec.last);
            queue::wait(queue::Target::Tasks(&[last]))?;
        }
        release_memory(&exec.nodes)
    }

    fn cuGraphExecGetFlags(handle: Handle, flags: Out<u64>) {
        flags.set(driver()?.execs.get(handle)?.flags)
    }

    fn cuGraphUpload(exec: Handle, handle: Handle) {
        driver()?.execs.get(exec)?;
        let (_, stream) = stream(handle)?;
        capture::forbid_on_stream(&stream)
    }

    fn cuGraphLaunch(exec: Handle, handle: Handle) {
        let exec = driver()?.execs.get(exec)?;
        let (context, stream) = stream(handle)?;
        if capture::is_capturing(&stream) {
            // During capture, each node becomes a node of the captured graph.
            return exec.nodes.iter()
                .try_for_each(|node| submit(&context, &stream, node.op.clone()));
        }
        if noted(&context, &stream, &Op::Empty)? {
            return Ok(());
        }
        let ops = prepare(&exec.nodes)?;
        queue::submit_graph(&context, &stream, &exec, ops);
        Ok(())
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let graph = driver()?.graphs.get(graph)?;
        let handles: Vec<Handle> = lock(&graph.nodes).iter().map(|node| node.handle).collect();
        give_nodes(&handles, nodes, count)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let graph = driver()?.graphs.get(graph)?;
        let roots = |node: &&Node| node.after.is_empty();
        let handles: Vec<Handle> = lock(&graph.nodes).iter().filter(roots)
            .map(|node| node.handle).collect();
        give_nodes(&handles, nodes, count)
    }

    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        let graph = driver()?.graphs.get(graph)?;
        let nodes = lock(&graph.nodes);
        let edges = nodes.iter()
            .flat_map(|node| node.after.iter().map(|&first| (nodes[first].handle, node.handle)));
        let (starts, ends): (Vec<Handle>, Vec<Handle>) = edges.unzip();
        let room = In(count.0.cast_const()).get()?;
        give_nodes(&starts, from, count)?;
        count.set(room)?;
        give_nodes(&ends, to, count)
    }

    fn cuGraphNodeGetType(handle: Handle, kind: Out<c_uint>) {
        let (graph, index) = node(handle)?;
        let number = lock(&graph.nodes).get(index).map(|node| node.op.node_type());
        kind.set(number.ok_or(CUresult::INVALID_HANDLE)?)
    }

    fn cuGraphNodeGetDependencies(handle: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let (graph, index) = node(handle)?;
        let all = lock(&graph.nodes);
        let handles: Vec<Handle> = all[index].after.iter().map(|&first| all[first].handle)
            .collect();
        drop(all);
        give_nodes(&handles, nodes, count)
    }

    fn cuGraphAddEmptyNode(out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize) {
        check(!out.is_null())?;
        let graph = driver()?.graphs.get(graph)?;
        let mut nodes = lock(&graph.nodes);
        let places = (0..count).map(|index| {
            let wanted = after.at(index)?;
            nodes.iter().position(|node| node.handle == wanted).ok_or(CUresult::INVALID_VALUE)
        });
        let places = places.collect::<Result<Vec<usize>>>()?;
        let made = Node::new(Op::Empty, places);
        out.set(made.handle)?;
        nodes.push(made);
        Ok(())
    }
}
