//! The objects of a request: itself, its inputs, the outputs it asks for.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Bounds;
use super::collect::{Collected, DataSeed};
use super::parameters::Parameters;
use super::shape::ShapeSeed;
use crate::protocol::datatype::Datatype;
use crate::protocol::error::ProtocolError;

/// A request of which only the form has been checked.
#[derive(Debug, Default)]
pub(in crate::protocol) struct RequestJson {
    pub(in crate::protocol) id: Option<String>,
    pub(in crate::protocol) parameters: Option<Box<Parameters>>,
    pub(in crate::protocol) inputs: Option<Vec<InputJson>>,
    pub(in crate::protocol) outputs: Option<Vec<OutputJson>>,
}

/// An input of it. Its parameters lie elsewhere: they are large and rare, and inputs are moved as their list grows.
#[derive(Debug, Default)]
pub(in crate::protocol) struct InputJson {
    pub(in crate::protocol) name: Option<String>,
    pub(in crate::protocol) datatype: Option<Result<Datatype, ProtocolError>>,
    pub(in crate::protocol) shape: Option<Result<Vec<u64>, ProtocolError>>,
    pub(in crate::protocol) parameters: Option<Box<Parameters>>,
    pub(in crate::protocol) data: Option<Collected>,
}

/// An output that it asks for.
#[derive(Debug, Default)]
pub(in crate::protocol) struct OutputJson {
    pub(in crate::protocol) name: Option<String>,
    pub(in crate::protocol) parameters: Option<Box<Parameters>>,
}

impl RequestJson {
    pub(super) fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        bounds: Bounds,
    ) -> Result<Self, D::Error> {
        Object::new(bounds).deserialize(deserializer)
    }
}

/// The fields of all objects; each ignores those of the others.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Id,
    Parameters,
    Inputs,
    Outputs,
    Name,
    Datatype,
    Shape,
    Data,
    #[serde(other)]
    Other,
}

/// What is read field by field.
trait Fields<'de>: Default {
    /// It, in words.
    const WHAT: &'static str;

    /// Reads the value of a field.
    fn read_field<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
        bounds: Bounds,
    ) -> Result<(), A::Error>;
}

impl<'de> Fields<'de> for RequestJson {
    const WHAT: &'static str = "an object with `inputs`";

    fn read_field<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
        bounds: Bounds,
    ) -> Result<(), A::Error> {
        match field {
            Field::Id => put(&mut self.id, "id", map.next_value()?),
            Field::Parameters => put(&mut self.parameters, "parameters", map.next_value()?),
            Field::Inputs => {
                let list = List::new(bounds, bounds.limits.inputs);
                put(&mut self.inputs, "inputs", map.next_value_seed(list)?)
            }
            Field::Outputs => {
                let list = List::new(bounds, bounds.limits.outputs);
                put(&mut self.outputs, "outputs", map.next_value_seed(list)?)
            }
            _ => ignore(map),
        }
    }
}

impl<'de> Fields<'de> for InputJson {
    const WHAT: &'static str = "an input, which is an object";

    fn read_field<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
        bounds: Bounds,
    ) -> Result<(), A::Error> {
        match field {
            Field::Name => put(&mut self.name, "name", map.next_value()?),
            Field::Datatype => {
                let name = map.next_value::<DatatypeName>()?;
                put(&mut self.datatype, "datatype", Some(name.0))
            }
            Field::Shape => {
                let shape = map.next_value_seed(ShapeSeed {
                    most: bounds.limits.dimensions,
                })?;
                put(&mut self.shape, "shape", Some(shape))
            }
            Field::Parameters => put(&mut self.parameters, "parameters", map.next_value()?),
            Field::Data => {
                // Before it is read: two would take twice the memory.
                if self.data.is_some() {
                    return Err(A::Error::duplicate_field("data"));
                }
                self.data = map.next_value_seed(DataSeed { bounds })?;
                Ok(())
            }
            _ => ignore(map),
        }
    }
}

impl<'de> Fields<'de> for OutputJson {
    const WHAT: &'static str = "an output, which is an object";

    fn read_field<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
        _: Bounds,
    ) -> Result<(), A::Error> {
        match field {
            Field::Name => put(&mut self.name, "name", map.next_value()?),
            Field::Parameters => put(&mut self.parameters, "parameters", map.next_value()?),
            _ => ignore(map),
        }
    }
}

/// Keeps the value of a field that may come once. A `null` is none.
fn put<T, E: Error>(field: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), E> {
    if field.is_some() {
        return Err(E::duplicate_field(name));
    }
    *field = value;
    Ok(())
}

fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// Reads an object.
struct Object<'l, T> {
    bounds: Bounds<'l>,
    of: PhantomData<T>,
}

impl<'l, T> Object<'l, T> {
    fn new(bounds: Bounds<'l>) -> Self {
        Self {
            bounds,
            of: PhantomData,
        }
    }
}

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Object<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Object<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(field) = map.next_key()? {
            object.read_field(field, &mut map, self.bounds)?;
        }
        Ok(object)
    }
}

/// Reads a list of objects, or `null`.
struct List<'l, T> {
    bounds: Bounds<'l>,
    most: usize,
    of: PhantomData<T>,
}

impl<'l, T> List<'l, T> {
    fn new(bounds: Bounds<'l>, most: usize) -> Self {
        Self {
            bounds,
            most,
            of: PhantomData,
        }
    }
}

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = Option<Vec<T>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for List<'_, T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Object::new(self.bounds))? {
            if items.len() == self.most {
                return Err(A::Error::custom(format_args!(
                    "the list has more than {} entries",
                    self.most
                )));
            }
            items.push(item);
        }
        Ok(Some(items))
    }
}

/// Reads the name of a datatype.
struct DatatypeName(Result<Datatype, ProtocolError>);

impl<'de> Deserialize<'de> for DatatypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = DatatypeName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a datatype")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<DatatypeName, E> {
                Ok(DatatypeName(Datatype::from_name(name)))
            }
        }

        deserializer.deserialize_str(Name)
    }
}
