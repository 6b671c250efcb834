//! What the API promises without a server: the definitions are complete and bounded, and every document survives the way through the types.

#[cfg(test)]
mod crdgen;
#[cfg(test)]
mod definitions;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod words;
