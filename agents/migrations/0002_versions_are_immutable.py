from django.db import migrations

REFUSE = """
CREATE FUNCTION agents_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'agent versions are immutable: publish a new one' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER agentversion_immutable BEFORE UPDATE ON agents_agentversion
    FOR EACH ROW EXECUTE FUNCTION agents_refuse_change();
"""
ALLOW = """
DROP TRIGGER agentversion_immutable ON agents_agentversion;
DROP FUNCTION agents_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
