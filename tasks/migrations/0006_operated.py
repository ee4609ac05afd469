from typing import Any

import django.db.models.deletion
from django.db import migrations, models


GIVEN = {
    "Operators": (("task", "resume_task", "Can resume task"), ("worker", "view_worker", "Can view worker")),
    "Viewers": (("worker", "view_worker", "Can view worker"),),
}


def let_groups_in(apps: Any, schema_editor: Any) -> None:
    """For an installation that has the groups already; a new one gets the permissions with them."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for group in Group.objects.filter(name__in=GIVEN):
        for model, codename, name in GIVEN[group.name]:
            about, _ = ContentType.objects.get_or_create(app_label="tasks", model=model)
            permission, _ = Permission.objects.get_or_create(
                codename=codename, content_type=about, defaults={"name": name}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0005_lean_rows"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="task",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("cancel_task", "Can cancel task"),
                    ("retry_task", "Can retry task"),
                    ("resume_task", "Can resume task"),
                ],
            },
        ),
        migrations.AlterField(
            model_name="task",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="children",
                to="tasks.task",
            ),
        ),
        migrations.RunPython(let_groups_in, migrations.RunPython.noop),
    ]
