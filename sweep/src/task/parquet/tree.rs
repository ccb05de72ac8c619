//! Rows out of columns: each leaf column holds its values one after the other, with a definition
//! level (how much of the path to the leaf is there) and a repetition level (which list of the
//! path goes on) beside each.

use parquet::basic::{ConvertedType, LogicalType};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::leaf::Leaf;

/// A column, or a group of columns.
#[derive(Debug)]
pub(super) enum Node {
    /// Index into the leaves.
    Leaf(usize),
    /// Members by name.
    Struct(Vec<(String, Tree)>),
    /// Items, the repetition level at which the list goes on, and the definition level at which it
    /// has an item.
    List { item: Box<Tree>, repetition: i16, filled: i16 },
}

/// A node, and the definition level from which it is not null.
#[derive(Debug)]
pub(super) struct Tree {
    node: Node,
    present: i16,
    /// The leaves below: first, and one beyond the last.
    leaves: (usize, usize),
}

/// Levels of the place where a node stands.
#[derive(Clone, Copy)]
struct Place {
    definition: i16,
    repetition: i16,
}

impl Tree {
    /// The tree of one of a file's top columns, whose first leaf is number `leaf`.
    pub(super) fn new(column: &Type, leaf: usize) -> Self {
        let mut next = leaf;
        Self::build(column, Place { definition: 0, repetition: 0 }, &mut next)
    }

    /// Its first leaf.
    pub(super) fn start(&self) -> usize {
        self.leaves.0
    }

    /// One beyond its last leaf.
    pub(super) fn end(&self) -> usize {
        self.leaves.1
    }

    fn build(column: &Type, at: Place, next: &mut usize) -> Self {
        let repeated = |column: &Type| {
            let info = column.get_basic_info();
            info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED
        };
        let first = *next;
        if repeated(column) {
            // A repeated column without a list around it is never null.
            let inner = Place { definition: at.definition + 1, repetition: at.repetition + 1 };
            let item = Self::content(column, inner, next);
            return Self::list(item, inner, at.definition, (first, *next));
        }
        let definition = at.definition + i16::from(column.is_optional());
        let at = Place { definition, ..at };
        let list = column.is_group().then(|| column.get_fields()).and_then(|fields| match fields {
            [only] if is_list(column) && repeated(only) => Some(only),
            _ => None,
        });
        let Some(inside) = list else { return Self::content(column, at, next) };
        let inner = Place { definition: definition + 1, repetition: at.repetition + 1 };
        // Old writers leave out the group between list and item.
        let old = inside.name() == "array" || inside.name() == format!("{}_tuple", column.name());
        let item = match inside.is_group().then(|| inside.get_fields()) {
            Some([item]) if !old => Self::build(item, inner, next),
            _ => Self::content(inside, inner, next),
        };
        Self::list(item, inner, definition, (first, *next))
    }

    fn list(item: Self, inner: Place, present: i16, leaves: (usize, usize)) -> Self {
        let Place { definition: filled, repetition } = inner;
        Self { node: Node::List { item: Box::new(item), repetition, filled }, present, leaves }
    }

    fn content(column: &Type, at: Place, next: &mut usize) -> Self {
        let first = *next;
        let node = if column.is_group() {
            let members = column.get_fields().iter();
            Node::Struct(
                members
                    .map(|member| (member.name().to_owned(), Self::build(member, at, next)))
                    .collect(),
            )
        } else {
            *next += 1;
            Node::Leaf(first)
        };
        Self { node, present: at.definition, leaves: (first, *next) }
    }

    /// Takes the next value off the leaves.
    ///
    /// # Errors
    /// Where the columns contradict each other.
    pub(super) fn take(&self, leaves: &mut [Leaf]) -> Result<Value, String> {
        let Some(definition) = self.first(leaves).map(Leaf::definition).transpose()? else {
            // A group without columns.
            return Ok(Value::Null);
        };
        if definition < self.present {
            self.pass(leaves)?;
            return Ok(Value::Null);
        }
        match &self.node {
            Node::Leaf(index) => leaves.get_mut(*index).ok_or_else(torn)?.value(),
            Node::Struct(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    object.insert(name.clone(), member.take(leaves)?);
                }
                Ok(Value::Object(object))
            }
            Node::List { filled, .. } if definition < *filled => {
                self.pass(leaves)?;
                Ok(Value::Array(Vec::new()))
            }
            Node::List { item, repetition, .. } => {
                let mut items = Vec::new();
                loop {
                    items.push(item.take(leaves)?);
                    let next = self.first(leaves).and_then(Leaf::repetition);
                    if next != Some(*repetition) {
                        return Ok(Value::Array(items));
                    }
                }
            }
        }
    }

    fn first<'l>(&self, leaves: &'l [Leaf]) -> Option<&'l Leaf> {
        leaves.get(self.leaves.0..self.leaves.1)?.first()
    }

    /// Passes over a value that is not there: one level in each leaf.
    fn pass(&self, leaves: &mut [Leaf]) -> Result<(), String> {
        let below = leaves.get_mut(self.leaves.0..self.leaves.1).ok_or_else(torn)?;
        below.iter_mut().try_for_each(|leaf| leaf.pass())
    }
}

fn is_list(column: &Type) -> bool {
    let info = column.get_basic_info();
    info.logical_type_ref() == Some(&LogicalType::List)
        || info.converted_type() == ConvertedType::LIST
}

pub(super) fn torn() -> String {
    "its columns have different numbers of values".to_owned()
}
