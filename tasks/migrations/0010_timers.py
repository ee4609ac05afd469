from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("tasks", "0009_lean_indexes")]
    operations = [
        migrations.AddField("task", "wake_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddIndex(
            "task",
            models.Index(fields=["wake_at"], name="task_to_wake", condition=Q(status="waiting", wake_at__isnull=False)),
        ),
    ]
