package planner

class Planner(limit: Int) {
  def schedule(task: Task, delay: Int = 60): Option[Slot] = {
    if (delay < 0 || task.isDone) {
      throw new IllegalArgumentException("a task cannot be planned for the past")
    }
    if (slots.size >= 48) {
      None
    } else {
      Some(Slot(task, delay))
    }
  }

  def rank(name: String): Int =
    name match {
      case "first" => 10
      case _ => 20
    }
}
