//! Names from a file's symbol tables alone, for stripped files that keep one compressed in themselves.

use crate::process::mini_debug;
use object::{Object as _, ReadRef, SymbolKind};

/// Functions by address.
pub struct Tables {
    functions: Vec<Function>,
}

struct Function {
    start: u64,
    /// Where the next one begins, if the table does not say.
    end: u64,
    name: String,
}

impl Tables {
    /// The names of a file that has no symbols but in the compressed section and in `.dynsym`; `None` if others have to look
    /// into it. (blazesym gives no names at all of a file whose section it cannot unpack.)
    pub fn of<'data, R: ReadRef<'data>>(data: R) -> Option<Self> {
        let file = object::File::parse(data).ok()?;
        if file.symbols().next().is_some() || !mini_debug::is_there(data) {
            return None;
        }
        let mut functions = Vec::new();
        if let Some(unpacked) = mini_debug::unpacked(data)
            && let Ok(mini) = object::File::parse(unpacked.as_slice())
        {
            functions.extend(mini.symbols().filter_map(function));
        }
        functions.extend(file.dynamic_symbols().filter_map(function));
        functions.sort_by_key(|function| function.start);
        functions.dedup_by_key(|function| function.start);
        let starts: Vec<u64> = functions.iter().skip(1).map(|function| function.start).collect();
        for (function, next) in functions.iter_mut().zip(starts) {
            if function.end == function.start {
                function.end = next;
            }
        }
        Some(Self { functions })
    }

    /// The function at an ELF address.
    pub fn name(&self, address: u64) -> Option<&str> {
        let next = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions.get(next.checked_sub(1)?)?;
        (address < function.end).then_some(function.name.as_str())
    }
}

fn function<'data>(symbol: impl object::ObjectSymbol<'data>) -> Option<Function> {
    let start = symbol.address();
    let is_one = symbol.kind() == SymbolKind::Text && symbol.is_definition();
    let name = is_one.then(|| symbol.name().ok()).flatten().filter(|name| !name.is_empty())?;
    Some(Function { start, end: start.checked_add(symbol.size())?, name: name.to_owned() })
}
