from django.db import migrations

# The ledger is append-only. And a budget that is gone or switched off leaves no account behind: when it comes back, its
# account is opened anew with what the ledger holds, calls that no budget counted included.
KEEP = """
CREATE FUNCTION llm_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER ledgerentry_immutable BEFORE UPDATE OR DELETE ON llm_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION llm_refuse_change();

CREATE FUNCTION llm_close_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM llm_account
    WHERE scope = OLD.scope AND scope_id = OLD.scope_id AND period = OLD.period AND limit_usd IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER budget_gone AFTER DELETE ON llm_budget FOR EACH ROW EXECUTE FUNCTION llm_close_accounts();
CREATE TRIGGER budget_off AFTER UPDATE OF enabled ON llm_budget
    FOR EACH ROW WHEN (OLD.enabled AND NOT NEW.enabled) EXECUTE FUNCTION llm_close_accounts();
"""
LET_GO = """
DROP TRIGGER budget_off ON llm_budget;
DROP TRIGGER budget_gone ON llm_budget;
DROP FUNCTION llm_close_accounts();
DROP TRIGGER ledgerentry_immutable ON llm_ledgerentry;
DROP FUNCTION llm_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("llm", "0002_money")]
    operations = [migrations.RunSQL(KEEP, LET_GO)]
