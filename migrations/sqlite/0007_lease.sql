-- In Postgres only, where several coordinators share a database: the leader's lease has a table of
-- its own. The number stands for the same version of the schema in both.
select 1;
