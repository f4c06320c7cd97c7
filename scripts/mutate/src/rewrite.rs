//! The text of a file with all of its mutants in it.

use std::fmt::Write as _;

use crate::points::{Kind, Mutant};

/// A mutant and the number that switches it on.
pub struct Numbered<'m> {
    pub number: u32,
    pub mutant: &'m Mutant,
}

/// One place with its mutants, and the places inside.
struct Node<'m> {
    start: usize,
    end: usize,
    kind: Kind,
    mutants: Vec<Numbered<'m>>,
    inner: Vec<Node<'m>>,
}

/// Puts the mutants of a file into its text.
pub fn rewrite(source: &str, mutants: Vec<Numbered<'_>>) -> String {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    for numbered in mutants {
        let (range, kind) = (numbered.mutant.range.clone(), numbered.mutant.kind);
        let same = |node: &&mut Node<'_>| {
            (node.start, node.end, node.kind) == (range.start, range.end, kind)
        };
        match nodes.iter_mut().find(same) {
            Some(node) => node.mutants.push(numbered),
            None => nodes.push(Node {
                start: range.start,
                end: range.end,
                kind,
                mutants: vec![numbered],
                inner: Vec::new(),
            }),
        }
    }
    // Outer places first; a statement is around the expression that it consists of.
    nodes.sort_by_key(|node| {
        (
            node.start,
            std::cmp::Reverse(node.end),
            node.kind == Kind::Expression,
        )
    });
    let mut roots: Vec<Node<'_>> = Vec::new();
    for node in nodes {
        insert(&mut roots, node);
    }
    render(source, 0, source.len(), &roots)
}

fn insert<'m>(list: &mut Vec<Node<'m>>, node: Node<'m>) {
    match list.last_mut() {
        Some(last) if last.end >= node.end && last.start < last.end => {
            insert(&mut last.inner, node)
        }
        _ => list.push(node),
    }
}

fn render(source: &str, start: usize, end: usize, nodes: &[Node<'_>]) -> String {
    let mut out = String::new();
    let mut at = start;
    for node in nodes {
        out += &source[at..node.start];
        let original = render(source, node.start, node.end, &node.inner);
        out += &choice(node, &original);
        at = node.end;
    }
    out += &source[at..end];
    out
}

fn choice(node: &Node<'_>, original: &str) -> String {
    let mut text = String::new();
    for Numbered { number, mutant } in &node.mutants {
        // The comments tell where a mutant is, for errors of the compiler to be traced to it.
        let (open, close, new) = (
            format!("/*<{number}*/"),
            format!("/*>{number}*/"),
            &mutant.text,
        );
        let _ = match node.kind {
            Kind::Expression => write!(
                text,
                "if crate::mutants::on({number}) {{ {open}{new}{close} }} else "
            ),
            Kind::Delete => write!(
                text,
                "{open}if !crate::mutants::on({number}) {{ {original} }}{close}"
            ),
            Kind::Early => write!(
                text,
                " if crate::mutants::on({number}) {{ {open}{new}{close} }}"
            ),
        };
    }
    match node.kind {
        Kind::Expression => format!("({text}{{ {original} }})"),
        _ => text,
    }
}

/// The module `mutants` of a mutated crate with switches for numbers below `count`.
pub fn switches(count: u32) -> String {
    include_str!("switches.txt").replace("COUNT", &count.to_string())
}
