"""The three steps of the papers: a teacher from labels, labels from the teacher, a student from both."""
