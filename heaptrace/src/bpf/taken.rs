//! Maps out of the loaded object, by their names.

use super::{array::SharedArray, error::LoadError};
use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};

/// The map `name`, as aya knows its kind.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or_else(|| broken(format!("no map {name}")))?;
    map.try_into().map_err(|error: MapError| broken(error.to_string()))
}

/// The map `name`, an array or a hash map, to be used without aya.
pub(super) fn take_data(ebpf: &mut Ebpf, name: &str) -> Result<MapData, LoadError> {
    match ebpf.take_map(name) {
        Some(Map::Array(data) | Map::HashMap(data)) => Ok(data),
        Some(_) => Err(broken(format!("map {name} is of another kind"))),
        None => Err(broken(format!("no map {name}"))),
    }
}

/// The array `name` of so many entries, mapped.
pub(super) fn take_array<T: Copy>(
    ebpf: &mut Ebpf,
    name: &str,
    entries: u32,
) -> Result<SharedArray<T>, LoadError> {
    SharedArray::new(&take_data(ebpf, name)?, entries).map_err(|source| LoadError::Maps { source })
}

fn broken(what: String) -> LoadError {
    LoadError::Object { what }
}
