from django.db import migrations

REFUSE = """
CREATE FUNCTION tasks_refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'task % is % and cannot become %', OLD.id, OLD.status, NEW.status
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER task_final_is_final BEFORE UPDATE OF status ON tasks_task
    FOR EACH ROW WHEN (OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION tasks_refuse_move();
"""
ALLOW = """
DROP TRIGGER task_final_is_final ON tasks_task;
DROP FUNCTION tasks_refuse_move();
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
