//! Modules: a program, and a program loaded on a device.
use crate::ir::{Kernel, Program};
use crate::load_error::LoadError;
use crate::lower;
use crate::memory::{Memory, MemoryError};
use crate::panics;
use std::sync::Arc;

/// A lowered module, not yet on a device. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Module {
    program: Arc<Program>,
}

impl Module {
    /// A module from a program that was built directly rather than parsed.
    pub fn from_program(program: Program) -> Module {
        Module {
            program: Arc::new(program),
        }
    }

    /// A module from PTX text.
    ///
    /// # Errors
    /// The first construct that is not PTX, or that the emulator does not support, with its line.
    pub fn parse(ptx: &str) -> Result<Module, LoadError> {
        let program = panics::contain(|| lower::compile(ptx))
            .unwrap_or_else(|panic| Err(LoadError::new(0, panic.to_string())))?;
        Ok(Module::from_program(program))
    }

    /// The lowered program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A kernel by name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.program.kernels.iter().find(|k| k.name == name)
    }
}

/// A module on a device: its variables have addresses. Dropping the last handle (kernels hold one
/// too) frees them.
#[derive(Clone)]
pub struct LoadedModule {
    inner: Arc<Loaded>,
}

pub(crate) struct Loaded {
    program: Arc<Program>,
    /// Address of each of the program's globals.
    pub(crate) addresses: Vec<u64>,
    memory: Arc<Memory>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        for &address in &self.addresses {
            // Only this handle can free the address, so it is still allocated.
            let _ = self.memory.free(address);
        }
    }
}

impl LoadedModule {
    pub(crate) fn place(
        module: &Module,
        memory: &Arc<Memory>,
    ) -> Result<LoadedModule, MemoryError> {
        let program = Arc::clone(&module.program);
        let mut loaded = Loaded {
            program: Arc::clone(&program),
            addresses: Vec::new(),
            memory: Arc::clone(memory),
        };
        for global in &program.globals {
            let address =
                memory.place_zeroed(global.size.max(1), Some(&global.name), global.constant)?;
            loaded.addresses.push(address);
        }
        // The rest of a variable is zero, as PTX defines it, and is not accessed: it may be
        // gigabytes.
        for (global, &address) in program.globals.iter().zip(&loaded.addresses) {
            let given = (global.init.len() as u64).min(global.size) as usize;
            memory.write(address, &global.init[..given])?;
            for relocation in &global.relocations {
                let target = loaded.addresses.get(relocation.symbol as usize);
                let value = target.map(|target| target.wrapping_add_signed(relocation.addend));
                let inside = relocation.offset.checked_add(8);
                if let Some(value) = value
                    && inside.is_some_and(|end| end <= global.size)
                {
                    memory.write(address + relocation.offset, &value.to_le_bytes())?;
                }
            }
        }
        Ok(LoadedModule {
            inner: Arc::new(loaded),
        })
    }

    /// A kernel by name.
    pub fn kernel(&self, name: &str) -> Option<LoadedKernel> {
        let index = self
            .inner
            .program
            .kernels
            .iter()
            .position(|k| k.name == name)?;
        Some(LoadedKernel {
            module: Arc::clone(&self.inner),
            index,
        })
    }

    /// Names of its kernels.
    pub fn kernel_names(&self) -> impl Iterator<Item = &str> {
        self.inner.program.kernels.iter().map(|k| k.name.as_str())
    }

    /// Address and size in bytes of a `.global` or `.const` variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let index = self
            .inner
            .program
            .globals
            .iter()
            .position(|g| g.name == name)?;
        Some((
            self.inner.addresses[index],
            self.inner.program.globals[index].size,
        ))
    }
}

/// A kernel of a loaded module. Cheap to clone; keeps the module loaded.
#[derive(Clone)]
pub struct LoadedKernel {
    pub(crate) module: Arc<Loaded>,
    index: usize,
}

impl LoadedKernel {
    /// The kernel's program: parameters, shared and local bytes, required block.
    pub fn kernel(&self) -> &Kernel {
        &self.module.program.kernels[self.index]
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.module.memory
    }
}
