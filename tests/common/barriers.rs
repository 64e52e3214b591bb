//! Whether every invocation of a workgroup reaches each barrier: browsers refuse shaders where that cannot be proved, naga
//! does not look. Stricter than WGSL's own analysis, and short: a value is uniform when it is made of constants, parameters,
//! read-only bindings and the workgroup's number alone.

use naga::{
    AddressSpace, Block, BuiltIn, EntryPoint, Expression, Function, Handle, LocalVariable, Module, Statement,
    StorageAccess,
};

/// A condition, or what else decides whether a statement runs.
type Conditions = Vec<Handle<Expression>>;

enum Event {
    Barrier,
    Call(Handle<Function>, Vec<Handle<Expression>>, Option<Handle<Expression>>),
    Store(Handle<Expression>, Handle<Expression>),
}

/// What happens in a function, each with the conditions under which it does.
#[derive(Default)]
struct Walk {
    events: Vec<(Event, Conditions)>,
    /// The conditions of every block that is open, and of every `break` and `continue` passed in the innermost loop.
    open: Conditions,
    /// The conditions of every `return` passed.
    returns: Conditions,
}

impl Walk {
    fn block(&mut self, block: &Block) {
        for statement in block {
            self.statement(statement);
        }
    }

    fn event(&mut self, event: Event) {
        self.events.push((event, [&self.open[..], &self.returns].concat()));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Block(block) => self.block(block),
            Statement::If { condition, accept, reject } => self.branches(*condition, &[accept, reject]),
            Statement::Switch { selector, cases } => {
                self.branches(*selector, &cases.iter().map(|case| &case.body).collect::<Vec<_>>());
            }
            Statement::Loop { body, continuing, break_if } => self.repeated(body, continuing, *break_if),
            Statement::Return { .. } => self.returns.extend_from_slice(&self.open),
            Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } => {
                self.event(Event::Barrier)
            }
            Statement::Call { function, arguments, result } => {
                self.event(Event::Call(*function, arguments.clone(), *result));
            }
            Statement::Store { pointer, value } => self.event(Event::Store(*pointer, *value)),
            _ => {}
        }
    }

    fn branches(&mut self, condition: Handle<Expression>, blocks: &[&Block]) {
        let before = self.open.len();
        self.open.push(condition);
        blocks.iter().for_each(|block| self.block(block));
        // Behind a branch that left the loop the rest of the loop depends on its condition.
        let leaves = |s: &Statement| matches!(s, Statement::Break | Statement::Continue);
        if !blocks.iter().any(|block| block.iter().any(leaves)) && self.open.len() == before + 1 {
            self.open.pop();
        }
    }

    fn repeated(&mut self, body: &Block, continuing: &Block, break_if: Option<Handle<Expression>>) {
        let (before, first) = (self.open.len(), self.events.len());
        self.block(body);
        self.block(continuing);
        self.open.extend(break_if);
        // What leaves a loop late decides about the next round's beginning.
        let leaving: Conditions = self.open.drain(before..).collect();
        self.events[first..].iter_mut().for_each(|(_, conditions)| conditions.extend_from_slice(&leaving));
    }
}

/// A function called with arguments of which it is known whether they are uniform.
struct Call<'a> {
    module: &'a Module,
    function: &'a Function,
    arguments: Vec<bool>,
    events: Vec<(Event, Conditions)>,
}

impl<'a> Call<'a> {
    fn new(module: &'a Module, function: &'a Function, arguments: Vec<bool>) -> Self {
        let mut walk = Walk::default();
        walk.block(&function.body);
        Call { module, function, arguments, events: walk.events }
    }

    /// `assumed` are the local variables that are being looked at: the greatest fixed point.
    fn uniform(&self, at: Handle<Expression>, assumed: &[Handle<LocalVariable>]) -> bool {
        let all = |parts: &[Handle<Expression>]| parts.iter().all(|&part| self.uniform(part, assumed));
        match &self.function.expressions[at] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_) => true,
            Expression::FunctionArgument(i) => self.arguments[*i as usize],
            Expression::GlobalVariable(variable) => match self.module.global_variables[*variable].space {
                AddressSpace::Uniform => true,
                AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
                _ => false,
            },
            Expression::LocalVariable(variable) => self.uniform_local(*variable, assumed),
            Expression::Load { pointer } => all(&[*pointer]),
            Expression::Access { base, index } => all(&[*base, *index]),
            Expression::AccessIndex { base, .. } => all(&[*base]),
            Expression::Splat { value, .. } => all(&[*value]),
            Expression::Swizzle { vector, .. } => all(&[*vector]),
            Expression::Compose { components, .. } => all(components),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => all(&[*expr]),
            Expression::Binary { left, right, .. } => all(&[*left, *right]),
            Expression::Select { condition, accept, reject } => all(&[*condition, *accept, *reject]),
            Expression::Relational { argument, .. } => all(&[*argument]),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                all(&[Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().collect::<Vec<_>>())
            }
            Expression::CallResult(function) => {
                let called = self.events.iter().find_map(|(event, _)| match event {
                    Event::Call(_, arguments, Some(result)) if *result == at => Some(arguments),
                    _ => None,
                });
                called.is_some_and(|arguments| all(arguments)) && !has_barrier(self.module, *function)
            }
            _ => false,
        }
    }

    fn uniform_local(&self, variable: Handle<LocalVariable>, assumed: &[Handle<LocalVariable>]) -> bool {
        if assumed.contains(&variable) {
            return true;
        }
        let assumed = [assumed, &[variable]].concat();
        let init = self.function.local_variables[variable].init;
        let is_it = |at: Handle<Expression>| self.root(at) == Some(variable);
        init.is_none_or(|value| self.uniform(value, &assumed))
            && self.events.iter().all(|(event, conditions)| match event {
                Event::Store(pointer, value) if is_it(*pointer) => {
                    let decided = conditions.iter().all(|&condition| self.uniform(condition, &assumed));
                    decided && self.uniform(*pointer, &assumed) && self.uniform(*value, &assumed)
                }
                _ => true,
            })
    }

    /// The local variable that a pointer leads into.
    fn root(&self, at: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match &self.function.expressions[at] {
            Expression::LocalVariable(variable) => Some(*variable),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.root(*base),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        for (event, conditions) in &self.events {
            let inner = match event {
                Event::Barrier => None,
                Event::Call(function, arguments, _) if has_barrier(self.module, *function) => {
                    Some((*function, arguments.iter().map(|&a| self.uniform(a, &[])).collect()))
                }
                _ => continue,
            };
            if !conditions.iter().all(|&condition| self.uniform(condition, &[])) {
                let name = self.function.name.as_deref().unwrap_or("the entry point");
                return Err(format!("in {name} some invocations may not reach a barrier"));
            }
            if let Some((function, arguments)) = inner {
                Call::new(self.module, &self.module.functions[function], arguments).check()?;
            }
        }
        Ok(())
    }
}

fn has_barrier(module: &Module, function: Handle<Function>) -> bool {
    let mut walk = Walk::default();
    walk.block(&module.functions[function].body);
    walk.events.iter().any(|(event, _)| match event {
        Event::Barrier => true,
        Event::Call(inner, ..) => has_barrier(module, *inner),
        Event::Store(..) => false,
    })
}

/// Fails where an invocation may miss a barrier that others of its workgroup reach.
pub(crate) fn check(module: &Module, entry: &EntryPoint) -> Result<(), String> {
    let uniform = |binding: &Option<naga::Binding>| {
        matches!(
            binding,
            Some(naga::Binding::BuiltIn(
                BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups | BuiltIn::WorkGroupSize
            ))
        )
    };
    let arguments = entry.function.arguments.iter().map(|argument| uniform(&argument.binding)).collect();
    Call::new(module, &entry.function, arguments).check()
}
