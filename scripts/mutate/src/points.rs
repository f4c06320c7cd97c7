//! Positions in a file that can be mutated, and the mutations.
//!
//! Each mutated expression becomes a choice that the running program makes:
//! `(if on(7) { (a) <= (b) } else { a < b })`. The branch of a mutant holds the original text of
//! what it contains, for only one mutant is active at a time.

use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ItemFn, Lit, ReturnType, Stmt, Type, UnOp};

/// Replacement of the original by a mutant's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An expression in place of an expression.
    Expression,
    /// The statement is left out.
    Delete,
    /// A statement in front of everything in a function's body.
    Early,
}

/// One mutant.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub kind: Kind,
    /// Replaced range, in bytes; of [`Kind::Early`] the place behind the body's brace.
    pub range: Range<usize>,
    /// The new text.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
    /// The function around it.
    pub function: String,
}

/// Collects the mutants of a file.
pub fn find(source: &str) -> syn::Result<Vec<Mutant>> {
    let file = syn::parse_file(source)?;
    let mut finder = Finder {
        source,
        mutants: Vec::new(),
        function: String::new(),
    };
    finder.visit_file(&file);
    Ok(finder.mutants)
}

struct Finder<'s> {
    source: &'s str,
    mutants: Vec<Mutant>,
    function: String,
}

impl Finder<'_> {
    fn text(&self, span: Span) -> &str {
        &self.source[span.byte_range()]
    }

    fn add(&mut self, kind: Kind, span: Span, text: String) {
        self.mutants.push(Mutant {
            kind,
            range: span.byte_range(),
            text,
            line: span.start().line,
            function: self.function.clone(),
        });
    }

    fn replace(&mut self, expr: &Expr, text: String) {
        self.add(Kind::Expression, expr.span(), text);
    }

    fn binary(&mut self, expr: &syn::ExprBinary) {
        if has_let(&expr.left) || has_let(&expr.right) {
            return;
        }
        let (a, b) = (self.text(expr.left.span()), self.text(expr.right.span()));
        let assigns = other_assignments(&expr.op);
        let texts: Vec<String> = match assigns {
            Some(op) => vec![format!("{a} {op} {b}")],
            None => {
                let others = other_operators(&expr.op).iter();
                let mut texts: Vec<String> = others.map(|op| format!("({a}) {op} ({b})")).collect();
                // A bound that is one too wide. Of `<` and `>` that is `<=` and `>=`.
                match expr.op {
                    BinOp::Le(_) => texts.push(format!("({a}) <= ({b}) + 1")),
                    BinOp::Ge(_) => texts.push(format!("({a}) + 1 >= ({b})")),
                    _ => {}
                }
                texts
            }
        };
        for text in texts {
            self.add(Kind::Expression, expr.span(), text);
        }
    }

    /// A condition that is no comparison is negated; those have mutants of their own.
    fn condition(&mut self, cond: &Expr) {
        let own = match cond {
            Expr::Binary(binary) => !other_operators(&binary.op).is_empty(),
            Expr::Unary(unary) => matches!(unary.op, UnOp::Not(_)),
            Expr::Let(_) | Expr::Lit(_) => true,
            _ => false,
        };
        if !own && !has_let(cond) {
            let text = format!("!({})", self.text(cond.span()));
            self.replace(cond, text);
        }
    }

    fn bound(&mut self, bound: &Expr) {
        // A literal has mutants of its own.
        if !matches!(bound, Expr::Lit(_)) {
            let text = format!("({}) + 1", self.text(bound.span()));
            self.replace(bound, text);
        }
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let returns: &[&str] = match &signature.output {
            ReturnType::Default => &["return;"],
            ReturnType::Type(_, ty) => early_returns(ty),
        };
        let open = block.brace_token.span.open();
        for text in returns {
            self.mutants.push(Mutant {
                kind: Kind::Early,
                range: open.byte_range().end..open.byte_range().end,
                text: (*text).to_owned(),
                line: open.start().line,
                function: signature.ident.to_string(),
            });
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let text = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.to_string(),
            _ => String::new(),
        };
        path.is_ident("test") || (path.is_ident("cfg") && text.contains("test"))
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        // Constants and macros are not run.
        match item {
            syn::Item::Mod(module) if is_test(&module.attrs) => {}
            syn::Item::Fn(function) if is_test(&function.attrs) => {}
            syn::Item::Const(_)
            | syn::Item::Static(_)
            | syn::Item::Enum(_)
            | syn::Item::Struct(_)
            | syn::Item::Type(_)
            | syn::Item::Macro(_)
            | syn::Item::Use(_) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if function.sig.constness.is_some() {
            return;
        }
        let outer = std::mem::replace(&mut self.function, function.sig.ident.to_string());
        self.body(&function.sig, &function.block);
        self.visit_block(&function.block);
        self.function = outer;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if function.sig.constness.is_some() {
            return;
        }
        let outer = std::mem::replace(&mut self.function, function.sig.ident.to_string());
        self.body(&function.sig, &function.block);
        self.visit_block(&function.block);
        self.function = outer;
    }

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_type(&mut self, _: &'ast Type) {}

    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        // The length is a constant.
        self.visit_expr(&repeat.expr);
    }

    fn visit_stmt(&mut self, stmt: &'ast Stmt) {
        if let Stmt::Expr(expr, Some(_)) = stmt {
            let deletes = match expr {
                Expr::Call(_) | Expr::MethodCall(_) | Expr::Try(_) | Expr::Assign(_) => true,
                Expr::Binary(binary) => other_assignments(&binary.op).is_some(),
                _ => false,
            };
            if deletes {
                self.add(Kind::Delete, stmt.span(), String::new());
            }
        }
        visit::visit_stmt(self, stmt);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Binary(binary) => self.binary(binary),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => {
                let text = format!("({})", self.text(unary.expr.span()));
                self.replace(expr, text);
            }
            Expr::If(choice) => self.condition(&choice.cond),
            Expr::While(repeat) => self.condition(&repeat.cond),
            Expr::Range(range) => {
                for bound in range.start.iter().chain(&range.end) {
                    self.bound(bound);
                }
            }
            Expr::Lit(literal) => {
                if let Lit::Int(int) = &literal.lit
                    && let Ok(value) = int.base10_parse::<u128>()
                {
                    let suffix = int.suffix();
                    self.replace(expr, format!("{}{suffix}", value + 1));
                    if value > 0 {
                        self.replace(expr, format!("{}{suffix}", value - 1));
                    }
                }
            }
            Expr::MethodCall(call) => {
                if let Some(other) = other_method(&call.method.to_string()) {
                    let all = expr.span().byte_range();
                    let name = call.method.span().byte_range();
                    let text = [
                        &self.source[all.start..name.start],
                        other,
                        &self.source[name.end..all.end],
                    ];
                    self.replace(expr, text.concat());
                }
            }
            _ => {}
        }
        visit::visit_expr(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard);
        }
        visit::visit_arm(self, arm);
    }
}

/// Returns whether a condition has a `let` in it, which only conditions may have.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}

fn other_operators(op: &BinOp) -> &'static [&'static str] {
    match op {
        BinOp::Lt(_) => &["<=", ">="],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Gt(_) => &[">=", "<="],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::Add(_) => &["-"],
        BinOp::Sub(_) => &["+"],
        BinOp::Mul(_) => &["+"],
        BinOp::Div(_) => &["*"],
        BinOp::Rem(_) => &["/"],
        BinOp::BitAnd(_) => &["|"],
        BinOp::BitOr(_) => &["&"],
        BinOp::BitXor(_) => &["|"],
        BinOp::Shl(_) => &[">>"],
        BinOp::Shr(_) => &["<<"],
        _ => &[],
    }
}

fn other_assignments(op: &BinOp) -> Option<&'static str> {
    Some(match op {
        BinOp::AddAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        BinOp::MulAssign(_) => "+=",
        BinOp::DivAssign(_) => "*=",
        BinOp::RemAssign(_) => "/=",
        BinOp::BitAndAssign(_) => "|=",
        BinOp::BitOrAssign(_) => "&=",
        BinOp::BitXorAssign(_) => "|=",
        BinOp::ShlAssign(_) => ">>=",
        BinOp::ShrAssign(_) => "<<=",
        _ => return None,
    })
}

fn other_method(name: &str) -> Option<&'static str> {
    Some(match name {
        "min" => "max",
        "max" => "min",
        "any" => "all",
        "all" => "any",
        "is_some" => "is_none",
        "is_none" => "is_some",
        "is_some_and" => "is_none_or",
        "is_none_or" => "is_some_and",
        "first" => "last",
        "last" => "first",
        "find" => "rfind",
        "saturating_sub" => "saturating_add",
        "saturating_add" => "saturating_sub",
        "wrapping_sub" => "wrapping_add",
        "wrapping_add" => "wrapping_sub",
        "trailing_zeros" => "leading_zeros",
        "div_ceil" => "min",
        _ => return None,
    })
}

fn early_returns(ty: &Type) -> &'static [&'static str] {
    let Type::Path(path) = ty else {
        return &[];
    };
    let Some(last) = path.path.segments.last() else {
        return &[];
    };
    let first = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments.args.first(),
        _ => None,
    };
    let unit = matches!(
        first,
        Some(syn::GenericArgument::Type(Type::Tuple(tuple))) if tuple.elems.is_empty()
    );
    match last.ident.to_string().as_str() {
        "bool" => &["return true;", "return false;"],
        "Outcome" => &["return Ok(());"],
        "Result" if unit || last.arguments.is_none() => &["return Ok(());"],
        "Option" => &["return None;"],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => &["return 0;", "return 1;"],
        _ => &[],
    }
}
