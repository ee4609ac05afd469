from django.db import migrations, models

# The rules that CHECKs held before: PostgreSQL builds each one's expression anew for every statement (10 to 20 µs). A
# trigger on these columns costs nothing to a write that leaves them alone, as that of every step does. What a step's
# row may hold is checked where it is bound (`tasks.moves`), the only place that writes one.
CHECKED = """
CREATE FUNCTION tasks_check_task() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    final CONSTANT boolean := NEW.status IN ('completed', 'failed', 'cancelled');
    broken CONSTANT text := CASE
        WHEN NEW.status NOT IN ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled')
            THEN 'task_status_known'
        WHEN (NEW.status = 'waiting') <> (NEW.waiting_on IS NOT NULL)
                OR NEW.waiting_on NOT IN ('approval', 'budget', 'timer', 'children', 'input')
            THEN 'task_waits_for_something'
        WHEN (NEW.status = 'failed') <> (NEW.error_code IS NOT NULL)
                OR (NEW.status = 'failed') <> (NEW.error_message IS NOT NULL)
                OR NEW.error_code NOT IN ('invalid_agent_config', 'provider_auth', 'provider_error', 'rate_limited',
                    'context_too_long', 'content_filtered', 'planner_error', 'output_invalid', 'max_steps', 'timeout',
                    'budget_exceeded', 'permission_denied', 'dependency_failed', 'nondeterminism', 'worker_lost',
                    'internal_error')
            THEN 'task_failed_with_reason'
        WHEN (NEW.status = 'completed') <> (NEW.result IS NOT NULL) THEN 'task_result_iff_completed'
        WHEN final <> (NEW.completed_at IS NOT NULL) THEN 'task_ends_once'
        WHEN (NEW.status = 'running') <> (NEW.lease_until IS NOT NULL)
                OR (NEW.status = 'running') <> (NEW.claimed_at IS NOT NULL)
                OR NEW.status = 'running' AND (NEW.started_at IS NULL OR NEW.attempt < 1 OR NEW.worker = '')
            THEN 'task_leased_iff_running'
        WHEN NEW.priority NOT BETWEEN -5 AND 5 THEN 'task_priority_range'
        WHEN NEW.running_seconds < 0 THEN 'task_time_not_negative'
        WHEN least(NEW.last_seq, NEW.steps_count, NEW.takeovers, NEW.input_tokens, NEW.output_tokens, NEW.cost_usd) < 0
            THEN 'task_counts_not_negative'
    END;
BEGIN
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'task % breaks the rule %', NEW.id, broken
            USING ERRCODE = 'check_violation', TABLE = 'tasks_task', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER task_is_sound BEFORE INSERT OR UPDATE OF status, waiting_on, error_code, error_message, result,
    completed_at, lease_until, claimed_at, started_at, attempt, worker, priority, running_seconds ON tasks_task
    FOR EACH ROW EXECUTE FUNCTION tasks_check_task();
"""
UNCHECKED = """
DROP TRIGGER task_is_sound ON tasks_task;
DROP FUNCTION tasks_check_task();
"""

OF_TASKS = (
    "task_status_known", "task_waits_for_something", "task_failed_with_reason", "task_result_iff_completed",
    "task_ends_once", "task_leased_iff_running", "task_priority_range", "task_cost_not_negative",
    "task_time_not_negative",
)
OF_STEPS = ("step_from_1", "step_kind_known", "step_status_known")
WHOLE, LARGE = models.IntegerField, models.BigIntegerField
PLAIN = (
    ("event", "seq", WHOLE()), ("step", "seq", WHOLE()), ("step", "attempt", WHOLE()),
    ("step", "input_tokens", LARGE(default=0)), ("step", "output_tokens", LARGE(default=0)),
    ("task", "attempt", WHOLE(default=0)), ("task", "takeovers", WHOLE(default=0)),
    ("task", "last_seq", WHOLE(default=0)), ("task", "steps_count", WHOLE(default=0)),
    ("task", "input_tokens", LARGE(default=0)), ("task", "output_tokens", LARGE(default=0)),
    ("task", "max_concurrency", WHOLE(null=True, blank=True)),
)  # without the CHECK that a PositiveIntegerField brings along


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_versions_are_immutable"), ("tasks", "0007_cancels_unheeded")]
    operations = [
        *(migrations.RemoveConstraint("task", name) for name in OF_TASKS),
        *(migrations.RemoveConstraint("step", name) for name in OF_STEPS),
        *(migrations.AlterField(model, name, field) for model, name, field in PLAIN),
        migrations.RunSQL(CHECKED, UNCHECKED),
    ]
