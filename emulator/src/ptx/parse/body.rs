//! Function bodies: statements, instructions and their operands.

use crate::ptx::ast::{Base, Guard, Instruction, Linkage, Operand, Statement, Value};
use crate::ptx::lexer::Token;
use crate::ptx::parse::{Parser, Result};

/// Maximum nesting depth of scopes; the time of a label lookup grows with the depth.
const MAX_SCOPES: u32 = 256;

impl<'a> Parser<'a> {
    /// A body in its braces; the outermost braces are not part of the result.
    pub(super) fn body(&mut self) -> Result<Vec<Statement<'a>>> {
        let opened = self.line;
        self.expect_mark(b'{')?;
        let mut statements = Vec::new();
        let mut depth = 0u32;
        loop {
            match self.token {
                Token::Mark(b'{') => {
                    depth += 1;
                    if depth > MAX_SCOPES {
                        return self
                            .error(format!("more than {MAX_SCOPES} scopes within each other"));
                    }
                    self.advance()?;
                    statements.push(Statement::Open);
                }
                Token::Mark(b'}') => {
                    self.advance()?;
                    if depth == 0 {
                        return Ok(statements);
                    }
                    depth -= 1;
                    statements.push(Statement::Close);
                }
                Token::End => {
                    return self.error(format!("the body opened in line {opened} has no end"));
                }
                Token::Directive(directive) => self.body_directive(directive, &mut statements)?,
                Token::Mark(b';') => drop(self.advance()?),
                _ => self.labelled(&mut statements)?,
            }
        }
    }

    fn body_directive(
        &mut self,
        directive: &'a str,
        statements: &mut Vec<Statement<'a>>,
    ) -> Result<()> {
        match directive {
            ".reg" => statements.push(Statement::Registers(self.registers()?)),
            ".loc" | ".file" => self.skip_line()?,
            ".pragma" | ".callprototype" => self.skip_past(b';')?,
            ".section" => self.skip_past(b'}')?,
            ".shared" | ".local" | ".param" | ".global" | ".const" => {
                let variables = self.variables(Linkage::Module)?;
                statements.extend(variables.into_iter().map(Statement::Variable));
            }
            ".branchtargets" => {
                let line = self.line;
                self.advance()?;
                let mut targets = vec![self.expect_name("a label")?];
                while self.take_mark(b',')? {
                    targets.push(self.expect_name("a label")?);
                }
                self.expect_mark(b';')?;
                statements.push(Statement::Targets(targets, line));
            }
            _ => {
                return self.error(format!(
                    "directive `{directive}` is not supported in a body"
                ));
            }
        }
        Ok(())
    }

    /// `label:` or an instruction.
    fn labelled(&mut self, statements: &mut Vec<Statement<'a>>) -> Result<()> {
        let line = self.line;
        let guard = self.guard()?;
        let name = self.expect_name("an instruction or label")?;
        if guard.is_none() && self.take_mark(b':')? {
            statements.push(Statement::Label(name, line));
            return Ok(());
        }
        let mut operands = Vec::with_capacity(4);
        while !self.take_mark(b';')? {
            if !operands.is_empty() {
                self.expect_mark(b',')?;
            }
            operands.push(self.operand()?);
        }
        statements.push(Statement::Instruction(Instruction {
            line,
            guard,
            name,
            operands,
        }));
        Ok(())
    }

    fn guard(&mut self) -> Result<Option<Guard<'a>>> {
        if !self.take_mark(b'@')? {
            return Ok(None);
        }
        let negated = self.take_mark(b'!')?;
        let name = self.expect_name("a predicate")?;
        Ok(Some(Guard { name, negated }))
    }

    fn operand(&mut self) -> Result<Operand<'a>> {
        match self.token {
            Token::Name(name) => {
                self.advance()?;
                if self.take_mark(b'|')? {
                    return Ok(Operand::Pair(
                        name,
                        self.expect_name("the second destination")?,
                    ));
                }
                if self.at_mark(b'+') || self.at_mark(b'-') {
                    let offset = self.offset()?;
                    return Ok(Operand::Value(Value::Address {
                        name,
                        offset,
                        generic: false,
                    }));
                }
                Ok(Operand::Name(name))
            }
            Token::Mark(b'!') => {
                self.advance()?;
                Ok(Operand::Not(self.expect_name("a predicate")?))
            }
            Token::Mark(b'[') => self.address(),
            Token::Mark(b'{') => Ok(Operand::Vector(self.operands_until(b'}')?)),
            Token::Mark(b'(') => Ok(Operand::Group(self.operands_until(b')')?)),
            Token::Number(_) | Token::Mark(b'-' | b'+') => {
                Ok(Operand::Value(self.signed_literal()?))
            }
            _ => self.unexpected("an operand"),
        }
    }

    fn operands_until(&mut self, end: u8) -> Result<Vec<Operand<'a>>> {
        self.advance()?;
        let mut operands = Vec::with_capacity(4);
        while !self.take_mark(end)? {
            if !operands.is_empty() {
                self.expect_mark(b',')?;
            }
            if self.at_mark(b'{') || self.at_mark(b'(') {
                return self.error("lists of operands within each other are not supported");
            }
            operands.push(self.operand()?);
        }
        Ok(operands)
    }

    /// `[a]`, `[a+4]`, `[4]`
    fn address(&mut self) -> Result<Operand<'a>> {
        self.advance()?;
        let operand = match self.token {
            Token::Name(name) => {
                self.advance()?;
                Operand::Address(Base::Name(name), self.offset()?)
            }
            _ => match self.signed_literal()? {
                Value::Int(value) => Operand::Address(Base::None, value.cast_signed()),
                _ => return self.error("an address must be an integer"),
            },
        };
        if !self.take_mark(b',')? {
            self.expect_mark(b']')?;
            return Ok(operand);
        }
        let Operand::Address(base, offset) = operand else {
            return self.unexpected("`]`");
        };
        if !self.at_mark(b'{') {
            return self.error("addresses with coordinates (textures, surfaces) are not supported");
        }
        let coordinates = self.operands_until(b'}')?;
        self.expect_mark(b']')?;
        Ok(Operand::Tensor(base, offset, coordinates))
    }
}
