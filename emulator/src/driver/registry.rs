//! Registries of objects by handle, and unique handles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use crate::driver::status::{CUresult, Result};
use crate::driver::types::Handle;

/// Locks a mutex even if it is poisoned: every critical section leaves its data consistent.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle that is unique in the process, for all time. Handles have the type of pointers but are
/// not addresses.
pub fn fresh_handle() -> Handle {
    static NEXT: AtomicUsize = AtomicUsize::new(0x5054_5800_0000);
    NEXT.fetch_add(0x40, Ordering::Relaxed)
}

/// Objects of one type by handle.
pub struct Registry<T>(RwLock<HashMap<Handle, Arc<T>>>);

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Registry(RwLock::default())
    }
}

impl<T> Registry<T> {
    /// Adds an object that is constructed with its own handle.
    pub fn insert(&self, make: impl FnOnce(Handle) -> T) -> Arc<T> {
        let handle = fresh_handle();
        let object = Arc::new(make(handle));
        self.write().insert(handle, object.clone());
        object
    }

    /// Adds an object and returns its handle.
    pub fn add(&self, object: T) -> Handle {
        let handle = fresh_handle();
        self.write().insert(handle, Arc::new(object));
        handle
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Handle, Arc<T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object, or `CUDA_ERROR_INVALID_HANDLE`.
    pub fn get(&self, handle: Handle) -> Result<Arc<T>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&handle).cloned().ok_or(CUresult::INVALID_HANDLE)
    }

    /// Removes the object and returns it, or `CUDA_ERROR_INVALID_HANDLE`.
    pub fn remove(&self, handle: Handle) -> Result<Arc<T>> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(&handle).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Returns whether any object satisfies `test`.
    pub fn any(&self, test: impl Fn(&T) -> bool) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .any(|object| test(object))
    }

    /// The first object for which `look` returns a value, and that value.
    pub fn find_map<U>(&self, look: impl Fn(&T) -> Option<U>) -> Option<(Arc<T>, U)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.values()
            .find_map(|object| Some((object.clone(), look(object)?)))
    }

    /// Drops every object that does not satisfy `keep`.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, object| keep(object));
    }
}
