//! Handles: objects by number, and fresh numbers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use super::status::{CUresult, Result};
use super::types::Handle;

/// Locks, whatever a panicking thread left behind: every critical section leaves its data whole.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle that no other object of the process has or had. Handles look like pointers but lead
/// nowhere.
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
    /// Makes an object that knows its handle.
    pub fn insert(&self, make: impl FnOnce(Handle) -> T) -> Arc<T> {
        let handle = fresh_handle();
        let object = Arc::new(make(handle));
        self.write().insert(handle, object.clone());
        object
    }

    /// Gives an object a handle.
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

    /// Takes the object out, or `CUDA_ERROR_INVALID_HANDLE`.
    pub fn remove(&self, handle: Handle) -> Result<Arc<T>> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(&handle).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Returns whether any object passes.
    pub fn any(&self, test: impl Fn(&T) -> bool) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .any(|object| test(object))
    }

    /// The first object for which `look` finds something, and what it finds.
    pub fn find_map<U>(&self, look: impl Fn(&T) -> Option<U>) -> Option<(Arc<T>, U)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.values()
            .find_map(|object| Some((object.clone(), look(object)?)))
    }

    /// Drops every object that does not pass.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, object| keep(object));
    }
}
