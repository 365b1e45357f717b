//! The schema: tables, types, indexes, views. Each statement is taken apart into what is understood and put together
//! again; where that is not the same, something in it was not understood, and it is refused.

use std::collections::{BTreeMap, BTreeSet};

use manifest::reading::{Collector, Path, shown};
use sqlparser::ast::{
    AlterTable, AlterTableOperation, ColumnDef, ColumnOption, CreateIndex, CreateTable, CreateTableOptions,
    CreateView, DataType, ForeignKeyConstraint, GeneratedAs, GeneratedExpressionMode, IndexType,
    Statement as Sql, TableConstraint, UserDefinedTypeRepresentation,
    helpers::stmt_create_table::CreateTableBuilder,
};

use super::{
    Refusal,
    check::{Level, check},
    excerpt, folded, parse, plain, types,
};
use crate::{Statement, TableName};

/// More statements are no schema that a person can agree to.
const MOST: usize = 5000;

/// A table or a view.
#[derive(Debug)]
pub(crate) enum Relation {
    /// Columns with PostgreSQL's names of their types.
    Table(BTreeMap<String, String>),
    /// Tables that it reads, also those behind other views.
    View(BTreeSet<TableName>),
}

/// What the statements make.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) statements: Vec<Statement>,
    pub(crate) relations: BTreeMap<String, Relation>,
    pub(crate) enums: BTreeSet<String>,
    /// The table of each index.
    pub(crate) indexes: BTreeMap<String, String>,
}

impl Schema {
    /// Reads all statements; faulty ones are faults, each with its number.
    pub(crate) fn read(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Self {
        let mut schema = Self::default();
        let statements = match parse(text) {
            Ok(statements) if statements.len() > MOST => {
                Err(Refusal::unsupported(format!("{} statements are more than {MOST}", statements.len())))
            }
            other => other,
        };
        let statements = statements.unwrap_or_else(|refusal| {
            schema_fault(at, refusal, faults);
            Vec::new()
        });
        for (index, statement) in statements.iter().enumerate() {
            if let Err(refusal) = schema.take(statement) {
                schema_fault(&at.index(index), refusal, faults);
            }
        }
        schema
    }

    /// The schema of a manifest that was accepted.
    pub(super) fn of(text: &str) -> Result<Self, Refusal> {
        let mut schema = Self::default();
        for statement in parse(text)? {
            schema.take(&statement)?;
        }
        Ok(schema)
    }

    /// All statements, each with its semicolon.
    pub(crate) fn text(&self) -> String {
        self.statements.iter().map(|statement| format!("{};\n", statement.sql)).collect()
    }

    /// Adds one statement.
    pub(crate) fn take(&mut self, statement: &Sql) -> Result<(), Refusal> {
        let (subject, mentions) = match statement {
            Sql::CreateTable(table) => self.table(table)?,
            Sql::CreateView(view) => self.view(view)?,
            Sql::CreateIndex(index) => self.index(index)?,
            Sql::CreateType {
                name,
                representation: Some(UserDefinedTypeRepresentation::Enum { labels }),
            } => {
                let name = plain(name)?;
                if labels.is_empty() || !self.enums.insert(free(&name)?) {
                    return Err(Refusal::invalid(format!("the type {name} has no values, or is made twice")));
                }
                (name, BTreeSet::new())
            }
            Sql::AlterTable(alter) => self.constraint(alter)?,
            other => {
                return Err(Refusal::unsupported(format!("`{}` may not stand in a schema", excerpt(other)))
                    .hint(
                        "CREATE TABLE, INDEX, VIEW, TYPE … AS ENUM, and ALTER TABLE … ADD CONSTRAINT may",
                    ));
            }
        };
        self.statements.push(Statement { subject, mentions, sql: statement.to_string() });
        Ok(())
    }

    fn table(&mut self, table: &CreateTable) -> Result<(String, BTreeSet<String>), Refusal> {
        if table.unlogged {
            return Err(Refusal::unsupported(
                "an UNLOGGED table is not in the log, and so would not be sealed",
            ));
        }
        let name = free(&plain(&table.name)?)?;
        let understood = CreateTableBuilder::new(table.name.clone())
            .columns(table.columns.clone())
            .constraints(table.constraints.clone())
            .build();
        if &understood != table {
            return Err(Refusal::unsupported(format!(
                "the table {name} has more than columns and constraints"
            )));
        }
        let mut mentions = BTreeSet::new();
        let mut columns = BTreeMap::new();
        for column in &table.columns {
            let kind = self.column(column, &name, &mut mentions)?;
            if columns.insert(folded(&column.name), kind).is_some() {
                return Err(Refusal::invalid(format!("{name} has the column {} twice", column.name)));
            }
        }
        for constraint in &table.constraints {
            self.constrained(constraint, &name, &mut mentions)?;
        }
        check(&Sql::CreateTable(table.clone()), self, Level::Definition)?;
        self.relate(&name, Relation::Table(columns))?;
        Ok((name, mentions))
    }

    fn relate(&mut self, name: &str, relation: Relation) -> Result<(), Refusal> {
        match self.relations.insert(name.to_owned(), relation) {
            None => Ok(()),
            Some(_) => Err(Refusal::invalid(format!("{name} is made twice"))),
        }
    }

    /// The type of a column.
    pub(super) fn column(
        &self,
        column: &ColumnDef,
        table: &str,
        mentions: &mut BTreeSet<String>,
    ) -> Result<String, Refusal> {
        if TableName::new(&folded(&column.name)).is_none() {
            let rule = crate::resolve::NAME_RULE;
            return Err(Refusal::unsupported(format!("the column `{}`: {rule}", shown(&column.name.value))));
        }
        let Some(kind) = types::name(&column.data_type, &self.enums) else {
            let refusal = Refusal::unsupported(format!(
                "the column {} has the type {}, which is not let through",
                shown(&column.name.value),
                shown(&column.data_type.to_string())
            ));
            return Err(match &column.data_type {
                DataType::Custom(name, _) if name.to_string().to_lowercase().contains("serial") => {
                    refusal.hint("write `bigint GENERATED BY DEFAULT AS IDENTITY`")
                }
                _ => refusal,
            });
        };
        for option in &column.options {
            match &option.option {
                ColumnOption::Null
                | ColumnOption::NotNull
                | ColumnOption::Default(_)
                | ColumnOption::Check(_) => {}
                ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) => {}
                ColumnOption::ForeignKey(key) => self.refers(key, table, mentions)?,
                ColumnOption::Generated {
                    generated_as: GeneratedAs::Always | GeneratedAs::ByDefault,
                    sequence_options,
                    generation_expr: None,
                    ..
                } if sequence_options.as_ref().is_none_or(Vec::is_empty) => {}
                ColumnOption::Generated {
                    generation_expr: Some(_),
                    generation_expr_mode: Some(GeneratedExpressionMode::Stored),
                    ..
                } => {}
                other => {
                    let column = shown(&column.name.value);
                    let other = shown(&other.to_string());
                    return Err(Refusal::unsupported(format!(
                        "`{other}` of the column {column} is not understood"
                    )));
                }
            }
        }
        Ok(kind)
    }

    pub(super) fn constrained(
        &self,
        constraint: &TableConstraint,
        table: &str,
        mentions: &mut BTreeSet<String>,
    ) -> Result<(), Refusal> {
        match constraint {
            TableConstraint::PrimaryKey(_) | TableConstraint::Unique(_) | TableConstraint::Check(_) => Ok(()),
            TableConstraint::ForeignKey(key) => self.refers(key, table, mentions),
            other => Err(Refusal::unsupported(format!("`{}` is not understood", shown(&other.to_string())))),
        }
    }

    fn refers(
        &self,
        key: &ForeignKeyConstraint,
        own: &str,
        mentions: &mut BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let table = plain(&key.foreign_table)?;
        if table != own && !matches!(self.relations.get(&table), Some(Relation::Table(_))) {
            return Err(Refusal::invalid(format!(
                "{own} refers to {table}, which no statement before it makes"
            )));
        }
        if table != own {
            mentions.insert(table);
        }
        Ok(())
    }

    fn view(&mut self, view: &CreateView) -> Result<(String, BTreeSet<String>), Refusal> {
        let name = free(&plain(&view.name)?)?;
        let more = view.or_alter
            || view.or_replace
            || view.materialized
            || view.secure
            || view.if_not_exists
            || view.temporary
            || view.copy_grants
            || view.with_no_schema_binding
            || view.comment.is_some()
            || view.to.is_some()
            || view.params.is_some()
            || !view.cluster_by.is_empty()
            || view.options != CreateTableOptions::None
            || view.columns.iter().any(|column| column.data_type.is_some() || column.options.is_some());
        if more {
            return Err(Refusal::unsupported(format!("the view {name} has more than columns and a query")));
        }
        let relations = check(view.query.as_ref(), self, Level::View)?.relations;
        let reads = self.tables_behind(&relations);
        self.relate(&name, Relation::View(reads))?;
        Ok((name, relations))
    }

    fn index(&mut self, index: &CreateIndex) -> Result<(String, BTreeSet<String>), Refusal> {
        let table = plain(&index.table_name)?;
        if !matches!(self.relations.get(&table), Some(Relation::Table(_))) {
            return Err(Refusal::invalid(format!(
                "an index is on {table}, which no statement before it makes"
            )));
        }
        let kinds = [IndexType::BTree, IndexType::Hash, IndexType::GIN, IndexType::GiST, IndexType::BRIN];
        let more = index.concurrently
            || index.r#async
            || index.if_not_exists
            || !index.with.is_empty()
            || !index.index_options.is_empty()
            || !index.alter_options.is_empty()
            || index.using.as_ref().is_some_and(|using| !kinds.contains(using))
            || index.columns.iter().any(|column| column.operator_class.is_some());
        let name = index.name.as_ref().map(plain).transpose()?;
        let Some(name) = name.filter(|_| !more) else {
            return Err(Refusal::unsupported(format!(
                "an index on {table} has no name, or more than columns"
            )));
        };
        check(&Sql::CreateIndex(index.clone()), self, Level::Definition)?;
        self.indexes.insert(free(&name)?, table.clone());
        Ok((table, BTreeSet::new()))
    }

    /// `ALTER TABLE … ADD CONSTRAINT`, as dumps write keys.
    fn constraint(&self, alter: &AlterTable) -> Result<(String, BTreeSet<String>), Refusal> {
        let table = plain(&alter.name)?;
        let [AlterTableOperation::AddConstraint { constraint, not_valid: false }] =
            alter.operations.as_slice()
        else {
            return Err(Refusal::unsupported(format!(
                "`ALTER TABLE {table}` does more than to add one constraint"
            )));
        };
        if alter.if_exists || alter.location.is_some() || alter.on_cluster.is_some() {
            return Err(Refusal::unsupported(format!("`ALTER TABLE {table}` has more than a constraint")));
        }
        if !matches!(self.relations.get(&table), Some(Relation::Table(_))) {
            return Err(Refusal::invalid(format!(
                "no statement before `ALTER TABLE {table}` makes that table"
            )));
        }
        let mut mentions = BTreeSet::new();
        self.constrained(constraint, &table, &mut mentions)?;
        check(&Sql::AlterTable(alter.clone()), self, Level::Definition)?;
        Ok((table, mentions))
    }
}

fn schema_fault(at: &Path<'_>, refusal: Refusal, faults: &mut Collector<'_>) {
    let Refusal { code, message, hint } = refusal;
    faults.add_with(at, code, message, || hint.map(str::to_owned));
}

/// A name that hides nothing of PostgreSQL's own, whose catalogue is looked in first.
fn free(name: &str) -> Result<String, Refusal> {
    let ours = TableName::new(name).is_some() && !name.starts_with("pg_") && !name.starts_with("bailey");
    if !ours {
        let rule = crate::resolve::NAME_RULE;
        return Err(Refusal::unsupported(format!("`{}`: {rule}, and not `pg_…` or `bailey…`", shown(name))));
    }
    Ok(name.to_owned())
}
