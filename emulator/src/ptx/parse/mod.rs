//! Parser: PTX text to syntax tree.
//!
//! The parser is handwritten. `ptx-syntax` of crates.io parses PTX as well, but its 126,000
//! generated lines take 2 min 40 s to build in release mode on two cores. It also parses the
//! operands of every instruction of the ISA, of which the lowering supports a tenth. This parser
//! handles only directives, declarations and the form of operands, and reads a 200 KB module in a
//! few milliseconds. The semantics of instructions, and the validity of their modifiers, are
//! determined once, by [`crate::lower`].

mod body;
mod declaration;
mod number;
#[cfg(test)]
mod tests;

use crate::load_error::LoadError;
use crate::ptx::ast::{Function, Linkage, Module, Space};
use crate::ptx::lexer::{Lexer, Token};

type Result<T> = std::result::Result<T, LoadError>;

/// Parses a module.
///
/// # Errors
/// The first construct that is not PTX, or that the emulator does not support, with its line.
pub fn parse(text: &str) -> Result<Module<'_>> {
    let mut parser = Parser::new(text)?;
    let mut module = Module::default();
    while parser.token != Token::End {
        parser.module_item(&mut module)?;
    }
    if module.version == (0, 0) {
        return Err(LoadError::new(
            1,
            "a module starts with `.version`, and this text has none",
        ));
    }
    if module.target.is_empty() {
        return Err(LoadError::new(1, "the module has no `.target`"));
    }
    Ok(module)
}

/// The lexer with one token of lookahead.
struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// The line of `token`.
    line: u32,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next_token()?;
        let line = lexer.line();
        Ok(Parser { lexer, token, line })
    }

    /// Advances to the next token and returns the previous one.
    fn advance(&mut self) -> Result<Token<'a>> {
        let token = std::mem::replace(&mut self.token, self.lexer.next_token()?);
        self.line = self.lexer.line();
        Ok(token)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(LoadError::new(self.line, message))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        self.error(format!("expected {wanted}, found {}", self.token))
    }

    fn at_mark(&self, mark: u8) -> bool {
        self.token == Token::Mark(mark)
    }

    /// Takes `mark` if it is next.
    fn take_mark(&mut self, mark: u8) -> Result<bool> {
        let found = self.at_mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_mark(&mut self, mark: u8) -> Result<()> {
        if self.take_mark(mark)? {
            return Ok(());
        }
        self.unexpected(&format!("`{}`", char::from(mark)))
    }

    fn expect_name(&mut self, wanted: &str) -> Result<&'a str> {
        match self.token {
            Token::Name(name) => {
                self.advance()?;
                Ok(name)
            }
            _ => self.unexpected(wanted),
        }
    }

    fn expect_u32(&mut self, wanted: &str) -> Result<u32> {
        let Token::Number(text) = self.token else {
            return self.unexpected(wanted);
        };
        let Some(value) = number::integer(text).and_then(|value| u32::try_from(value).ok()) else {
            return self.error(format!("{wanted} {text} is out of range"));
        };
        self.advance()?;
        Ok(value)
    }

    /// Skips the rest of the current line, whose first token is current.
    fn skip_line(&mut self) -> Result<()> {
        // The next token is on another line only if the directive stood alone. The lexer is then
        // exactly at the end of the current token, so the rest of this line is skipped in every
        // case.
        self.lexer.skip_line();
        self.advance().map(drop)
    }

    fn skip_past(&mut self, mark: u8) -> Result<()> {
        while !self.at_mark(mark) {
            if self.token == Token::End {
                return self.unexpected(&format!("`{}`", char::from(mark)));
            }
            self.advance()?;
        }
        self.advance().map(drop)
    }

    fn module_item(&mut self, module: &mut Module<'a>) -> Result<()> {
        match self.token {
            Token::Directive(".version") => self.version(module),
            Token::Directive(".target") => self.target(module),
            Token::Directive(".address_size") => {
                self.advance()?;
                match self.expect_u32("an address size")? {
                    64 => Ok(()),
                    size => self.error(format!("address size {size}: only 64 is supported")),
                }
            }
            Token::Directive(".loc" | ".file") => self.skip_line(),
            Token::Directive(".section") => self.skip_past(b'}'),
            Token::Directive(".pragma") => self.skip_past(b';'),
            Token::Mark(b';') => self.advance().map(drop),
            Token::Directive(_) => self.linked_item(module),
            _ => self.unexpected("a directive"),
        }
    }

    /// `.version 9.0`
    fn version(&mut self, module: &mut Module<'a>) -> Result<()> {
        self.advance()?;
        let Token::Number(text) = self.token else {
            return self.unexpected("a version");
        };
        let parts = text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let Some(version) = parts else {
            return self.error(format!("`{text}` is not a PTX version"));
        };
        module.version = version;
        self.advance().map(drop)
    }

    /// `.target sm_80, debug`
    fn target(&mut self, module: &mut Module<'a>) -> Result<()> {
        self.advance()?;
        module.target = self.expect_name("an architecture")?;
        if !module.target.starts_with("sm_") {
            return self.error(format!(
                "target `{}`: only sm_ architectures are supported",
                module.target
            ));
        }
        while self.take_mark(b',')? {
            self.expect_name("a target option")?;
        }
        Ok(())
    }

    /// Parses a variable, function or entry, after `.visible` and similar directives.
    fn linked_item(&mut self, module: &mut Module<'a>) -> Result<()> {
        let mut linkage = Linkage::Module;
        loop {
            let Token::Directive(directive) = self.token else {
                return self.unexpected("a directive");
            };
            linkage = match directive {
                ".extern" => Linkage::Extern,
                ".visible" => Linkage::Visible,
                ".weak" => Linkage::Weak,
                ".common" => Linkage::Common,
                ".entry" | ".func" => {
                    let function = self.function(linkage)?;
                    module.functions.push(function);
                    return Ok(());
                }
                ".global" | ".const" | ".shared" => {
                    module.variables.extend(self.variables(linkage)?);
                    return Ok(());
                }
                _ => return self.error(format!("directive `{directive}` is not supported here")),
            };
            self.advance()?;
        }
    }

    fn function(&mut self, linkage: Linkage) -> Result<Function<'a>> {
        let entry = self.advance()? == Token::Directive(".entry");
        let mut function = Function {
            line: self.line,
            name: "",
            entry,
            linkage,
            returns: Vec::new(),
            params: Vec::new(),
            max_threads: None,
            required_threads: None,
            max_registers: None,
            min_blocks: None,
            required_cluster: None,
            explicit_cluster: false,
            max_cluster: None,
            body: None,
        };
        self.function_directives(&mut function)?;
        if self.at_mark(b'(') {
            function.returns = self.parameters()?;
        }
        function.line = self.line;
        function.name = self.expect_name("the function's name")?;
        if self.at_mark(b'(') {
            function.params = self.parameters()?;
        }
        self.function_directives(&mut function)?;
        if !self.take_mark(b';')? {
            function.body = Some(self.body()?);
        }
        Ok(function)
    }

    fn parameters(&mut self) -> Result<Vec<crate::ptx::ast::Variable<'a>>> {
        self.expect_mark(b'(')?;
        let mut parameters = Vec::new();
        while !self.take_mark(b')')? {
            if !parameters.is_empty() {
                self.expect_mark(b',')?;
            }
            let variable = self.parameter()?;
            if variable.space != Space::Param {
                return self.error("parameters must be in `.param` space");
            }
            parameters.push(variable);
        }
        Ok(parameters)
    }

    /// Directives between a function's head and its body.
    fn function_directives(&mut self, function: &mut Function<'a>) -> Result<()> {
        while let Token::Directive(directive) = self.token {
            self.advance()?;
            match directive {
                ".maxntid" => function.max_threads = Some(self.triple()?),
                ".reqntid" => function.required_threads = Some(self.triple()?),
                ".maxnreg" => function.max_registers = Some(self.expect_u32("a register count")?),
                ".minnctapersm" => function.min_blocks = Some(self.expect_u32("a block count")?),
                ".maxnctapersm" => drop(self.expect_u32("a block count")?),
                ".reqnctapercluster" => function.required_cluster = Some(self.triple()?),
                ".maxclusterrank" => {
                    function.max_cluster = Some(self.expect_u32("a block count")?);
                }
                ".explicitcluster" => function.explicit_cluster = true,
                ".noreturn" | ".abi_preserve" | ".abi_preserve_control" => {}
                ".attribute" => self.skip_past(b')')?,
                ".pragma" => self.skip_past(b';')?,
                _ => {
                    return self.error(format!(
                        "directive `{directive}` of a function is not supported"
                    ));
                }
            }
        }
        Ok(())
    }

    fn triple(&mut self) -> Result<[u32; 3]> {
        let mut sizes = [1; 3];
        sizes[0] = self.expect_u32("a thread count")?;
        for size in &mut sizes[1..] {
            if !self.take_mark(b',')? {
                break;
            }
            *size = self.expect_u32("a thread count")?;
        }
        Ok(sizes)
    }
}
