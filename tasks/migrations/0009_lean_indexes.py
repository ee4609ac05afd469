import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

# Each write of a row opens every index of its table. The ids are compared as a whole, and the key of C-sorted text
# serves a search by its beginning too.
NO_LIKE = "DROP INDEX IF EXISTS tasks_task_id_9d65e96a_like"
PROTECTED = {"db_index": False, "on_delete": django.db.models.deletion.PROTECT, "related_name": "tasks"}
KEPT = {"blank": True, "null": True, "db_index": False, "on_delete": django.db.models.deletion.SET_NULL}


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_versions_are_immutable"), ("tasks", "0008_sound_rows")]
    operations = [
        migrations.AlterField("task", "agent", models.ForeignKey("agents.agent", **PROTECTED)),
        migrations.AlterField("task", "version", models.ForeignKey("agents.agentversion", **PROTECTED)),
        migrations.AlterField(
            "task", "api_key", models.ForeignKey("tasks.apikey", blank=True, null=True, **PROTECTED)
        ),
        migrations.AlterField("task", "parent", models.ForeignKey("tasks.task", related_name="children", **KEPT)),
        migrations.AlterField("task", "retry_of", models.ForeignKey("tasks.task", related_name="retries", **KEPT)),
        migrations.AddIndex("task", models.Index(
            fields=["parent"], name="task_of_parent", condition=Q(parent__isnull=False),
        )),
        migrations.AddIndex("task", models.Index(
            fields=["retry_of"], name="task_retry_of", condition=Q(retry_of__isnull=False),
        )),
        migrations.RunSQL(NO_LIKE, migrations.RunSQL.noop),
    ]
