//! Declarations of variables, parameters and registers.

use crate::ptx::ast::{Linkage, Registers, Space, Type, Value, Variable};
use crate::ptx::lexer::Token;
use crate::ptx::parse::{Parser, Result, number};

/// Maximum number of array dimensions; parsing of initialisers is recursive.
const MAX_DIMS: usize = 8;

/// The elements of one item of the outermost dimension.
fn inner_elements(dims: &[u64]) -> u64 {
    dims.iter()
        .skip(1)
        .fold(1, |product: u64, &dim| product.saturating_mul(dim))
        .max(1)
}

/// The elements of an array during parsing.
#[derive(Default)]
struct Elements<'a> {
    values: Vec<Value<'a>>,
    /// Number of repetitions of the values.
    count: u64,
}

impl<'a> Elements<'a> {
    fn push(&mut self, value: Value<'a>, count: u64) {
        self.values.push(value);
        self.count = self.count.saturating_add(count);
    }

    /// Adds zeros up to `wanted` elements.
    fn fill_up(&mut self, wanted: u64) {
        if let Some(more) = wanted.checked_sub(self.count).filter(|&more| more > 0) {
            self.push(Value::Zeros(more), more);
        }
    }
}

impl<'a> Parser<'a> {
    /// `.global .align 4 .b8 a[4] = {1, 2}, b;` with the space's directive current.
    pub(super) fn variables(&mut self, linkage: Linkage) -> Result<Vec<Variable<'a>>> {
        let first = self.declarator(linkage)?;
        let mut all = vec![first];
        while self.take_mark(b',')? {
            let mut next = Variable {
                line: self.line,
                dims: Vec::new(),
                init: None,
                ..all[0].clone()
            };
            self.named(&mut next)?;
            all.push(next);
        }
        self.expect_mark(b';')?;
        Ok(all)
    }

    /// `.param .u64 .ptr .global .align 16 name`
    pub(super) fn parameter(&mut self) -> Result<Variable<'a>> {
        self.declarator(Linkage::Module)
    }

    fn declarator(&mut self, linkage: Linkage) -> Result<Variable<'a>> {
        let space = match self.token {
            Token::Directive(".global") => Space::Global,
            Token::Directive(".const") => Space::Const,
            Token::Directive(".shared") => Space::Shared,
            Token::Directive(".local") => Space::Local,
            Token::Directive(".param") => Space::Param,
            _ => return self.unexpected("a state space"),
        };
        self.advance()?;
        let mut align = None;
        let mut vector = 1;
        let mut ty = None;
        // Attributes after `.ptr` describe the memory pointed to, and have no effect here.
        let mut pointee = false;
        while let Token::Directive(directive) = self.token {
            self.advance()?;
            match directive {
                ".align" => {
                    let value = self.alignment()?;
                    if !pointee {
                        align = Some(value);
                    }
                }
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".ptr" => pointee = true,
                ".global" | ".shared" | ".const" | ".local" if pointee => {}
                ".attribute" => self.skip_past(b')')?,
                _ => match Type::from_name(&directive[1..]) {
                    Some(found) if ty.is_none() => ty = Some(found),
                    _ => {
                        return self
                            .error(format!("`{directive}` in a declaration is not supported"));
                    }
                },
            }
        }
        let Some(ty) = ty else {
            return self.unexpected("a type");
        };
        let line = self.line;
        let mut variable = Variable {
            line,
            name: "",
            space,
            linkage,
            align,
            ty,
            vector,
            dims: Vec::new(),
            init: None,
        };
        self.named(&mut variable)?;
        Ok(variable)
    }

    fn alignment(&mut self) -> Result<u32> {
        let align = self.expect_u32("an alignment")?;
        if !align.is_power_of_two() || align > 1 << 16 {
            return self.error(format!(
                "alignment {align} is not a power of two up to 65536"
            ));
        }
        Ok(align)
    }

    /// Parses the name, dimensions and values.
    fn named(&mut self, variable: &mut Variable<'a>) -> Result<()> {
        variable.line = self.line;
        if let Token::Name(name) = self.token {
            variable.name = name;
            self.advance()?;
        }
        while self.take_mark(b'[')? {
            let mut dim = 0;
            if let Token::Number(text) = self.token {
                let Some(value) = number::integer(text) else {
                    return self.error(format!("`{text}` is not an array size"));
                };
                dim = value;
                self.advance()?;
            }
            self.expect_mark(b']')?;
            if variable.dims.len() == MAX_DIMS {
                return self.error(format!(
                    "arrays of more than {MAX_DIMS} dimensions are not supported"
                ));
            }
            variable.dims.push(dim);
        }
        if self.take_mark(b'=')? {
            variable.init = Some(self.initialiser(variable)?);
        }
        if variable.size().is_none() {
            return self.error(format!("`{}` is larger than 2^40 bytes", variable.name));
        }
        Ok(())
    }

    fn initialiser(&mut self, variable: &mut Variable<'a>) -> Result<Vec<Value<'a>>> {
        if !self.at_mark(b'{') {
            return Ok(vec![self.initial_value()?]);
        }
        let unsized_array = variable.dims.first() == Some(&0);
        let mut dims: Vec<u64> = variable.dims.clone();
        if variable.vector > 1 {
            dims.push(u64::from(variable.vector));
        }
        let inner = inner_elements(&dims);
        let mut elements = Elements::default();
        self.initial_list(&dims, &mut elements)?;
        if unsized_array {
            variable.dims[0] = elements.count.div_ceil(inner);
        } else if elements.count > inner.saturating_mul(dims.first().copied().unwrap_or(1)) {
            return self.error(format!("`{}` has more values than elements", variable.name));
        }
        Ok(elements.values)
    }

    /// Parses `{...}` for an array of these dimensions; a short nested list is filled with zeros.
    fn initial_list(&mut self, dims: &[u64], elements: &mut Elements<'a>) -> Result<()> {
        self.expect_mark(b'{')?;
        let inner = inner_elements(dims);
        while !self.take_mark(b'}')? {
            if self.at_mark(b'{') {
                if dims.len() < 2 {
                    return self.error(
                        "the initialiser has more nested lists than the array has dimensions",
                    );
                }
                let wanted = elements.count.saturating_add(inner);
                self.initial_list(&dims[1..], elements)?;
                if elements.count > wanted {
                    return self.error("an inner list has more values than its row has elements");
                }
                if !self.at_mark(b'}') {
                    elements.fill_up(wanted);
                }
            } else {
                let value = self.initial_value()?;
                elements.push(value, 1);
            }
            if !self.at_mark(b'}') {
                self.expect_mark(b',')?;
            }
        }
        Ok(())
    }

    /// A literal, a symbol's address, or `generic(symbol)`.
    fn initial_value(&mut self) -> Result<Value<'a>> {
        let Token::Name(name) = self.token else {
            return self.signed_literal();
        };
        self.advance()?;
        let generic = name == "generic" && self.at_mark(b'(');
        let name = if generic {
            self.advance()?;
            let inner = self.expect_name("a symbol")?;
            self.expect_mark(b')')?;
            inner
        } else {
            name
        };
        if self.at_mark(b'(') {
            return self.error(format!(
                "operator `{name}` in an initialiser is not supported"
            ));
        }
        let offset = self.offset()?;
        Ok(Value::Address {
            name,
            offset,
            generic,
        })
    }

    /// A number with its sign.
    pub(super) fn signed_literal(&mut self) -> Result<Value<'a>> {
        let negative = self.take_mark(b'-')?;
        if !negative {
            self.take_mark(b'+')?;
        }
        let Token::Number(text) = self.token else {
            return self.unexpected("a number");
        };
        let Some(value) = number::literal(text) else {
            return self.error(format!("`{text}` is not a number"));
        };
        self.advance()?;
        Ok(match value {
            Value::Int(value) if negative => Value::Int(value.wrapping_neg()),
            Value::F32(bits) if negative => Value::F32(bits ^ (1 << 31)),
            Value::F64(bits) if negative => Value::F64(bits ^ (1 << 63)),
            other => other,
        })
    }

    /// `+4`, `-4`, `+-4` or nothing.
    pub(super) fn offset(&mut self) -> Result<i64> {
        let mut negative = self.at_mark(b'-');
        if !negative && !self.at_mark(b'+') {
            return Ok(0);
        }
        self.advance()?;
        negative ^= self.take_mark(b'-')?;
        let Token::Number(text) = self.token else {
            return self.unexpected("an offset");
        };
        let Some(value) = number::integer(text) else {
            return self.error(format!("`{text}` is not an offset"));
        };
        self.advance()?;
        Ok(if negative {
            value.wrapping_neg()
        } else {
            value
        }
        .cast_signed())
    }

    /// `.reg .b32 a, %r<20>;` with `.reg` current.
    pub(super) fn registers(&mut self) -> Result<Registers<'a>> {
        self.advance()?;
        let line = self.line;
        let Token::Directive(directive) = self.token else {
            return self.unexpected("a register type");
        };
        let Some(ty) = Type::from_name(&directive[1..]) else {
            return self.error(format!("registers of type `{directive}` are not supported"));
        };
        self.advance()?;
        let mut names = Vec::new();
        loop {
            let name = self.expect_name("a register name")?;
            let mut count = None;
            if self.take_mark(b'<')? {
                count = Some(self.expect_u32("a register count")?);
                self.expect_mark(b'>')?;
            }
            names.push((name, count));
            if !self.take_mark(b',')? {
                break;
            }
        }
        self.expect_mark(b';')?;
        Ok(Registers { line, ty, names })
    }
}
