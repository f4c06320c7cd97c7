//! Commands that are printed before they run.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process;

use crate::{Failure, root};

/// A command that runs in the repository's root.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    /// A variable without a value is removed.
    environment: Vec<(String, Option<OsString>)>,
}

impl Command {
    /// A command whose words are separated by blanks.
    pub fn new(line: &str) -> Command {
        let mut words = line.split(' ').map(OsString::from);
        Command {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            environment: Vec::new(),
        }
    }

    /// Replaces the program.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Command {
        self.program = program.as_ref().to_owned();
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Command {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Command {
        arguments.into_iter().fold(self, Command::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Command {
        let value = Some(value.as_ref().to_owned());
        self.environment.push((name.to_owned(), value));
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Command {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Prints the command and runs it.
    ///
    /// # Errors
    /// Names the command if it cannot be started or fails.
    pub fn run(&self) -> Result<(), Failure> {
        println!("$ {self}");
        match self.prepare().status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{status}; repeat it with\n    {self}")),
            Err(error) => Err(format!("cannot run {}: {error}", self.program.display())),
        }
    }

    /// Runs the command and returns its standard output.
    ///
    /// # Errors
    /// Those of [`Command::run`].
    pub fn output(&self) -> Result<String, Failure> {
        let mut command = self.prepare();
        match command.stderr(process::Stdio::inherit()).output() {
            Ok(output) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(output) => Err(format!("{}; repeat it with\n    {self}", output.status)),
            Err(error) => Err(format!("cannot run {}: {error}", self.program.display())),
        }
    }

    fn prepare(&self) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.arguments).current_dir(root());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// The command as a shell takes it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.environment.iter().filter(|(_, value)| value.is_none());
        for (place, (name, _)) in removed.enumerate() {
            write!(f, "{}-u {name} ", if place == 0 { "env " } else { "" })?;
        }
        for (name, value) in &self.environment {
            if let Some(value) = value {
                write!(f, "{name}={} ", quoted(value))?;
            }
        }
        write!(f, "{}", quoted(&self.program))?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_commands_can_be_pasted() {
        let command = Command::new("cargo test --locked")
            .arg("it's here")
            .env("RUSTDOCFLAGS", "-D warnings")
            .without("WARPCONV_PREBUILT");
        assert_eq!(
            command.to_string(),
            concat!(
                "env -u WARPCONV_PREBUILT RUSTDOCFLAGS='-D warnings' ",
                r"cargo test --locked 'it'\''s here'"
            )
        );
    }
}
